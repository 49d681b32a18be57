-- UNION ALL of two inputs.
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
--- input other
status Int64
path Utf8View
{"status":1,"path":"x"}
--- step both
SELECT path, status FROM logs WHERE status < 500 UNION ALL SELECT path, status FROM other
--- output out from both
path Utf8View, status Int64
{"path":"/a","status":200}
{"path":"/b","status":404}
{"path":"x","status":1}
--- explain
input logs (2 of 5 columns)
    status Int32, path Utf8
input other (2 of 2 columns)
    status Int64, path Utf8View
both/filter/0 ← logs
    status < 500
both/project/0 ← both/filter/0
    CAST(path AS Utf8View) AS path, CAST(status AS Int64) AS status
both/union/0 ← both/project/0, other
    path, status
output out ← both/union/0
    path Utf8View, status Int64
