-- Functions of numbers.
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
SELECT abs(-status) AS a, round(bytes / 3.0, 2) AS b, power(2, 3) AS c, bytes % 3 AS d, floor(bytes / 4.0) AS e, ceil(bytes / 4.0) AS f, greatest(bytes, 6) AS g, nullif(bytes, 0) AS h, coalesce(bytes, -1) AS i, status & 4 AS j FROM logs
--- output out from s
a Int32, b Float64, c Float64, d Int64, e Float64, f Float64, g Int64, h Int64, i Int64, j Int64
{"a":200,"b":3.33,"c":8.0,"d":1,"e":2.0,"f":3.0,"g":10,"h":10,"i":10,"j":0}
{"a":404,"b":0.0,"c":8.0,"d":0,"e":0.0,"f":0.0,"g":6,"i":0,"j":4}
{"a":500,"b":23.33,"c":8.0,"d":1,"e":17.0,"f":18.0,"g":70,"h":70,"i":70,"j":4}
{"a":503,"c":8.0,"g":6,"i":-1,"j":4}
{"b":1.67,"c":8.0,"d":2,"e":1.0,"f":2.0,"g":6,"h":5,"i":5}
