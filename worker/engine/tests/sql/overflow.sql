-- Integers wrap on overflow, as DataFusion has it.
--- input logs
time Timestamp(µs, "UTC")
status Int32
path Utf8
bytes Int64
client Utf8
{"time":"2026-11-01T10:00:00Z","status":200,"path":"/a","bytes":10,"client":"10.0.0.1"}
{"time":"2026-11-01T10:00:01.5Z","status":404,"path":"/b","bytes":0,"client":"10.0.0.2"}
{"time":"2026-11-01T10:00:02Z","status":500,"path":"/a/b?q=1","bytes":70,"client":null}
{"time":"2026-11-01T10:00:03Z","status":503,"path":null,"bytes":null,"client":"abc"}
{"time":null,"status":null,"path":"/ä","bytes":5,"client":""}
--- step s
SELECT bytes * 9223372036854775807 AS wrapped, CAST(status AS INT) * CAST(8000000 AS INT) AS wrapped_too FROM logs
--- output out from s
wrapped Int64, wrapped_too Int32
{"wrapped":-10,"wrapped_too":1600000000}
{"wrapped":0,"wrapped_too":-1062967296}
{"wrapped":-70,"wrapped_too":-294967296}
{"wrapped_too":-270967296}
{"wrapped":9223372036854775803}
