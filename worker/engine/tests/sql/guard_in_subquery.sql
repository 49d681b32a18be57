-- The condition of a subquery guards what is computed outside of it.
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
SELECT 700 / q.bytes AS share FROM (SELECT bytes FROM logs WHERE bytes <> 0) AS q WHERE 700 / q.bytes > 50
--- output out from s
share Int64
{"share":70}
{"share":140}
--- explain
input logs (1 of 5 columns)
    bytes Int64
s/filter/0 ← logs
    bytes != 0
s/filter/1 ← s/filter/0
    700 / bytes > 50
s/project/0 ← s/filter/1
    700 / bytes AS share
output out ← s/project/0
    share Int64
