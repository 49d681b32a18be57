-- NULL in conditions and functions.
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
SELECT path IS NULL AS a, path IS DISTINCT FROM '/a' AS b, (status > 1) IS TRUE AS c, (status > 1) IS UNKNOWN AS d, status = NULL AS e, coalesce(path, client, '?') AS f, nvl(client, 'none') AS g FROM logs
--- output out from s
a Boolean, b Boolean, c Boolean, d Boolean, e Boolean, f Utf8, g Utf8
{"a":false,"b":false,"c":true,"d":false,"f":"/a","g":"10.0.0.1"}
{"a":false,"b":true,"c":true,"d":false,"f":"/b","g":"10.0.0.2"}
{"a":false,"b":true,"c":true,"d":false,"f":"/a/b?q=1","g":"none"}
{"a":true,"b":true,"c":true,"d":false,"f":"abc","g":"abc"}
{"a":false,"b":true,"c":false,"d":true,"f":"/ä","g":""}
