-- A WITH table that is read twice is computed once.
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
WITH bad AS (SELECT upper(path) AS p, status FROM logs WHERE status >= 400) SELECT p FROM bad UNION ALL SELECT p FROM bad
--- output out from s
p Utf8
{"p":"/B"}
{"p":"/A/B?Q=1"}
{}
{"p":"/B"}
{"p":"/A/B?Q=1"}
{}
--- explain
input logs (2 of 5 columns)
    status Int32, path Utf8
s/filter/0 ← logs
    status >= 400
s/project/0 ← s/filter/0
    upper(path) AS p
s/union/0 ← s/project/0, s/project/0
    p
output out ← s/union/0
    p Utf8
