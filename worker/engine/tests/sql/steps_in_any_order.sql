-- Steps read each other in any order; an input goes out as it is; columns nobody reads are not read.
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
--- step bad_paths
SELECT path, code FROM bad WHERE code <> 503
--- step bad
SELECT status AS code, path, client, upper(client) AS unused FROM logs WHERE status >= 400
--- step only_codes
SELECT code FROM bad
--- output paths from bad_paths
path Utf8, code Int32
{"path":"/b","code":404}
{"path":"/a/b?q=1","code":500}
--- output codes from only_codes
code Int32
{"code":404}
{"code":500}
{"code":503}
--- explain
input logs (2 of 5 columns)
    status Int32, path Utf8
bad/filter/0 ← logs
    status >= 400
bad_paths/filter/0 ← bad/filter/0
    code != 503
bad_paths/project/0 ← bad_paths/filter/0
    path, status AS code
only_codes/project/0 ← bad/filter/0
    status AS code
output paths ← bad_paths/project/0
    path Utf8, code Int32
output codes ← only_codes/project/0
    code Int32
