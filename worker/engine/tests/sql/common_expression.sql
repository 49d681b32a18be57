-- An expression that is used twice is computed once.
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
SELECT upper(path) AS a, upper(path) || 'x' AS b FROM logs WHERE status = 200
--- output out from s
a Utf8, b Utf8
{"a":"/A","b":"/Ax"}
--- explain
input logs (2 of 5 columns)
    status Int32, path Utf8
s/filter/0 ← logs
    status = 200
s/project/0 ← s/filter/0
    upper(path) AS __common_expr_1
s/project/1 ← s/project/0
    __common_expr_1 AS a, __common_expr_1 || 'x' AS b
output out ← s/project/1
    a Utf8, b Utf8
