-- A row that divides by zero is rejected, the others go on.
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
SELECT path, 100 / bytes AS share FROM logs
--- output out from s
path Utf8, share Int64
{"path":"/a","share":10}
{"path":"/a/b?q=1","share":1}
{}
{"path":"/ä","share":20}
--- rejected
out <- logs 1: operator s/project/0: `100 / bytes`: Divide by zero error {"path":"/b","bytes":0}
--- explain
input logs (2 of 5 columns)
    path Utf8, bytes Int64
s/project/0 ← logs
    path, 100 / bytes AS share
output out ← s/project/0
    path Utf8, share Int64
