-- Expressions, aliases and constants.
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
SELECT path AS where_to, status + 1, bytes * 2 AS double, 'x' AS tag, -bytes AS negative,
       status BETWEEN 400 AND 499 AS client_error, NOT (status = 200) AS not_ok
FROM logs
--- output out from s
where_to Utf8, logs.status + Int64(1) Int64, double Int64, tag Utf8, negative Int64, client_error Boolean, not_ok Boolean
{"where_to":"/a","logs.status + Int64(1)":201,"double":20,"tag":"x","negative":-10,"client_error":false,"not_ok":false}
{"where_to":"/b","logs.status + Int64(1)":405,"double":0,"tag":"x","negative":0,"client_error":true,"not_ok":true}
{"where_to":"/a/b?q=1","logs.status + Int64(1)":501,"double":140,"tag":"x","negative":-70,"client_error":false,"not_ok":true}
{"logs.status + Int64(1)":504,"tag":"x","client_error":false,"not_ok":true}
{"where_to":"/ä","double":10,"tag":"x","negative":-5}
--- explain
input logs (3 of 5 columns)
    status Int32, path Utf8, bytes Int64
s/project/0 ← logs
    path AS where_to, CAST(status AS Int64) + 1 AS logs.status + Int64(1), bytes * 2 AS double, 'x' AS tag, (- bytes) AS negative, status >= 400 AND status <= 499 AS client_error, status != 200 AS not_ok
output out ← s/project/0
    where_to Utf8, logs.status + Int64(1) Int64, double Int64, tag Utf8, negative Int64, client_error Boolean, not_ok Boolean
