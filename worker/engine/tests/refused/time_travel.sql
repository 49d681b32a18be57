-- A version of a table.
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
SELECT path FROM logs FOR SYSTEM_TIME AS OF logs.time
--- output out from s
--- problems
NotSupported | step s, line 1, column 45 | FOR SYSTEM_TIME AS OF anywhere but right after JOIN or LEFT JOIN is not supported | write FROM s JOIN t FOR SYSTEM_TIME AS OF s.time ON t.key = s.key
