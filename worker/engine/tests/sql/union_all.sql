-- UNION ALL coerces types and takes the names of the first.
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
SELECT path AS what, status AS n FROM logs WHERE status < 500 UNION ALL SELECT client, bytes FROM logs WHERE bytes > 5
--- output out from s
what Utf8, n Int64
{"what":"10.0.0.1","n":10}
{"n":70}
{"what":"/a","n":200}
{"what":"/b","n":404}
--- explain
input logs (4 of 5 columns)
    status Int32, path Utf8, bytes Int64, client Utf8
s/filter/0 ← logs
    status < 500
s/project/0 ← s/filter/0
    path AS what, CAST(status AS Int64) AS n
s/filter/1 ← logs
    bytes > 5
s/union/0 ← s/project/0, s/filter/1
    what, n
output out ← s/union/0
    what Utf8, n Int64
