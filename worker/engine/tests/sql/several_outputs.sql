-- Several outputs of one input, one of them the input itself, are fed by one reading of it.
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
--- step slim
SELECT status FROM logs
--- output raw from logs
time Timestamp(µs, "UTC"), status Int32, path Utf8, bytes Int64, client Utf8
{"time":"2026-11-01T10:00:00Z","status":200,"path":"/a","bytes":10,"client":"10.0.0.1"}
{"time":"2026-11-01T10:00:01.500Z","status":404,"path":"/b","bytes":0,"client":"10.0.0.2"}
{"time":"2026-11-01T10:00:02Z","status":500,"path":"/a/b?q=1","bytes":70}
{"time":"2026-11-01T10:00:03Z","status":503,"client":"abc"}
{"path":"/ä","bytes":5,"client":""}
--- output slim from slim
status Int32
{"status":200}
{"status":404}
{"status":500}
{"status":503}
{}
--- output again from slim
status Int32
{"status":200}
{"status":404}
{"status":500}
{"status":503}
{}
--- explain
input logs (5 of 5 columns)
    time Timestamp(µs, "UTC"), status Int32, path Utf8, bytes Int64, client Utf8
slim/project/0 ← logs
    status
output raw ← logs
    time Timestamp(µs, "UTC"), status Int32, path Utf8, bytes Int64, client Utf8
output slim ← slim/project/0
    status Int32
output again ← slim/project/0
    status Int32
