-- An aggregate over a window.
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
SELECT sum(bytes) OVER (ORDER BY time) AS n FROM logs
--- output out from s
--- problems
NotSupported | step s, line 1, column 19 | OVER in another order than that of event time is not supported | write ORDER BY the event time of the input, ascending, and nothing else; eventTime of the Source says which column it is. Or order by PROCTIME() AS a column of a step below
