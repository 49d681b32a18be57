-- A condition that cannot be evaluated rejects the row.
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
SELECT path FROM logs WHERE CAST(split_part(client, '.', 1) AS INT) = 10
--- output out from s
path Utf8
{"path":"/a"}
{"path":"/b"}
--- rejected
out <- logs 3: operator s/filter/0: `CAST(split_part(client, '.', 1) AS Int32) = 10`: Cast error: Cannot cast string 'abc' to value of Int32 type {"client":"abc"}
out <- logs 4: operator s/filter/0: `CAST(split_part(client, '.', 1) AS Int32) = 10`: Cast error: Cannot cast string '' to value of Int32 type {"path":"/ä","client":""}
