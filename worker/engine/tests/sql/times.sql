-- Functions of time.
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
SELECT date_trunc('minute', time) AS a, date_part('second', time) AS b, EXTRACT(HOUR FROM time) AS c, time + INTERVAL '1' HOUR AS d, to_char(time, '%Y-%m-%d') AS e, to_unixtime(time) AS f, date_bin(INTERVAL '2' SECOND, time) AS g, time > TIMESTAMP '2026-11-01T10:00:01Z' AS h FROM logs
--- output out from s
a Timestamp(µs, "UTC"), b Int32, c Int32, d Timestamp(µs, "UTC"), e Utf8, f Int64, g Timestamp(ns, "UTC"), h Boolean
{"a":"2026-11-01T10:00:00Z","b":0,"c":10,"d":"2026-11-01T11:00:00Z","e":"2026-11-01","f":1793527200,"g":"2026-11-01T10:00:00Z","h":false}
{"a":"2026-11-01T10:00:00Z","b":1,"c":10,"d":"2026-11-01T11:00:01.500Z","e":"2026-11-01","f":1793527201,"g":"2026-11-01T10:00:00Z","h":true}
{"a":"2026-11-01T10:00:00Z","b":2,"c":10,"d":"2026-11-01T11:00:02Z","e":"2026-11-01","f":1793527202,"g":"2026-11-01T10:00:02Z","h":true}
{"a":"2026-11-01T10:00:00Z","b":3,"c":10,"d":"2026-11-01T11:00:03Z","e":"2026-11-01","f":1793527203,"g":"2026-11-01T10:00:02Z","h":true}
{}
