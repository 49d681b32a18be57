-- Parts and texts of times as Flink defines them.
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
SELECT DATE_FORMAT(time, 'yyyy-MM-dd HH:mm:ss.SSS') AS a, DATE_FORMAT(time, 'yyyyMMdd''T''HH') AS b, YEAR(time) AS c, QUARTER(time) AS d, MONTH(time) AS e, WEEK(time) AS f, DAYOFYEAR(time) AS g, DAYOFMONTH(time) AS h, DAYOFWEEK(time) AS i, HOUR(time) AS j, MINUTE(time) AS k, SECOND(time) AS l, DAYOFWEEK(CAST(time AS DATE)) AS m, CASE WHEN HOUR(time) >= 8 AND HOUR(time) <= 18 THEN 'day' ELSE 'night' END AS n FROM logs
--- output out from s
a Utf8View, b Utf8View, c Int64, d Int64, e Int64, f Int64, g Int64, h Int64, i Int64, j Int64, k Int64, l Int64, m Int64, n Utf8
{"a":"2026-11-01 10:00:00.000","b":"20261101T10","c":2026,"d":4,"e":11,"f":44,"g":305,"h":1,"i":1,"j":10,"k":0,"l":0,"m":1,"n":"day"}
{"a":"2026-11-01 10:00:01.500","b":"20261101T10","c":2026,"d":4,"e":11,"f":44,"g":305,"h":1,"i":1,"j":10,"k":0,"l":1,"m":1,"n":"day"}
{"a":"2026-11-01 10:00:02.000","b":"20261101T10","c":2026,"d":4,"e":11,"f":44,"g":305,"h":1,"i":1,"j":10,"k":0,"l":2,"m":1,"n":"day"}
{"a":"2026-11-01 10:00:03.000","b":"20261101T10","c":2026,"d":4,"e":11,"f":44,"g":305,"h":1,"i":1,"j":10,"k":0,"l":3,"m":1,"n":"day"}
{"n":"night"}
