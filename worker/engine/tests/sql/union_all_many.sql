-- UNION ALL of many is one operator.
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
SELECT path FROM logs WHERE status = 200 UNION ALL SELECT client FROM logs WHERE status = 200 UNION ALL SELECT 'c' FROM logs WHERE status = 200 UNION ALL SELECT path FROM logs WHERE status = 200
--- output out from s
path Utf8
{"path":"/a"}
{"path":"/a"}
{"path":"10.0.0.1"}
{"path":"c"}
--- explain
input logs (3 of 5 columns)
    status Int32, path Utf8, client Utf8
s/filter/0 ← logs
    status = 200
s/filter/1 ← logs
    status = 200
s/filter/2 ← logs
    status = 200
s/project/0 ← s/filter/2
    'c' AS path
s/union/0 ← s/filter/0, s/filter/1, s/project/0, s/filter/0
    path
output out ← s/union/0
    path Utf8
