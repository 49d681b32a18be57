-- The same in branches of CASE.
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
SELECT CASE WHEN bytes <> 0 THEN 700 / bytes ELSE -1 END AS a, CASE WHEN bytes <> 0 AND 700 / bytes > 50 THEN 1 ELSE 0 END AS b FROM logs
--- output out from s
a Int64, b Int64
{"a":70,"b":1}
{"a":-1,"b":0}
{"a":10,"b":0}
{"a":-1,"b":0}
{"a":140,"b":1}
--- rejected
