-- Casts between types.
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
SELECT CAST(status AS VARCHAR) AS a, CAST(status AS DOUBLE) / 7 AS b, status::bigint AS c, CAST(bytes AS DECIMAL(10,2)) AS d, CAST(time AS DATE) AS e FROM logs
--- output out from s
a Utf8View, b Float64, c Int64, d Decimal128(10, 2), e Date32
{"a":"200","b":28.571428571428573,"c":200,"d":10.00,"e":"2026-11-01"}
{"a":"404","b":57.714285714285715,"c":404,"d":0.00,"e":"2026-11-01"}
{"a":"500","b":71.42857142857143,"c":500,"d":70.00,"e":"2026-11-01"}
{"a":"503","b":71.85714285714286,"c":503,"e":"2026-11-01"}
{"d":5.00}
