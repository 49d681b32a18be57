-- A filter alone keeps the columns in their order.
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
SELECT * FROM logs WHERE bytes > 5 OR path IS NULL
--- output out from s
time Timestamp(µs, "UTC"), status Int32, path Utf8, bytes Int64, client Utf8
{"time":"2026-11-01T10:00:00Z","status":200,"path":"/a","bytes":10,"client":"10.0.0.1"}
{"time":"2026-11-01T10:00:02Z","status":500,"path":"/a/b?q=1","bytes":70}
{"time":"2026-11-01T10:00:03Z","status":503,"client":"abc"}
--- explain
input logs (5 of 5 columns)
    time Timestamp(µs, "UTC"), status Int32, path Utf8, bytes Int64, client Utf8
s/filter/0 ← logs
    bytes > 5 OR path IS NULL
output out ← s/filter/0
    time Timestamp(µs, "UTC"), status Int32, path Utf8, bytes Int64, client Utf8
