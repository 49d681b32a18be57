-- A column under two names.
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
SELECT status AS a, status AS b, a + b AS c FROM (SELECT status, status AS a, status AS b FROM logs)
--- output out from s
a Int32, b Int32, c Int32
{"a":200,"b":200,"c":400}
{"a":404,"b":404,"c":808}
{"a":500,"b":500,"c":1000}
{"a":503,"b":503,"c":1006}
{}
--- explain
input logs (1 of 5 columns)
    status Int32
s/project/0 ← logs
    status AS a, status AS b, status + status AS c
output out ← s/project/0
    a Int32, b Int32, c Int32
