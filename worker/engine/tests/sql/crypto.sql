-- Digests and encodings.
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
SELECT encode(sha256(path), 'hex') AS a, md5(path) AS b, encode(path, 'base64') AS c FROM logs WHERE status = 200
--- output out from s
a Utf8, b Utf8View, c Utf8
{"a":"6a50dc8584134c7de537c0052ff6d236bf874355e050c90523e0c5ff2a543a28","b":"0639767f3e9eaad729b54037a7e2abf5","c":"L2E"}
