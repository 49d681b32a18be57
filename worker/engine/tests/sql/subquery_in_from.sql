-- A subquery in FROM.
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
SELECT q.code, q.p FROM (SELECT status / 100 AS code, path AS p FROM logs WHERE bytes IS NOT NULL) AS q WHERE q.code = 5
--- output out from s
code Int64, p Utf8
{"code":5,"p":"/a/b?q=1"}
--- explain
input logs (3 of 5 columns)
    status Int32, path Utf8, bytes Int64
s/filter/0 ← logs
    bytes IS NOT NULL AND CAST(status AS Int64) / 100 = 5
s/project/0 ← s/filter/0
    CAST(status AS Int64) / 100 AS code, path AS p
output out ← s/project/0
    code Int64, p Utf8
