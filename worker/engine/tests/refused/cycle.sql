-- Steps that read each other in a circle.
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
--- step a
SELECT path FROM b
--- step b
SELECT path
FROM c
--- step c
SELECT path FROM a
--- step d
SELECT path FROM a
--- output out from d
--- problems
Cycle | step c, line 1, column 18 | steps read each other in a circle: a → b → c → a | let one of them read an input instead
