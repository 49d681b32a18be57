-- Functions of strings.
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
SELECT upper(path) AS a, concat(client, '-', path) AS b, path || '!' AS c, substr(path, 2) AS d, split_part(path, '?', 1) AS e, length(path) AS f, lpad(path, 4, '.') AS g, replace(path, '/', '_') AS h, path LIKE '/a%' AS i, path ILIKE '/A%' AS j, regexp_replace(path, '[a-z]', 'X') AS k, path ~ '^/[a-z]$' AS l FROM logs
--- output out from s
a Utf8, b Utf8, c Utf8, d Utf8, e Utf8, f Int32, g Utf8, h Utf8, i Boolean, j Boolean, k Utf8, l Boolean
{"a":"/A","b":"10.0.0.1-/a","c":"/a!","d":"a","e":"/a","f":2,"g":"../a","h":"_a","i":true,"j":true,"k":"/X","l":true}
{"a":"/B","b":"10.0.0.2-/b","c":"/b!","d":"b","e":"/b","f":2,"g":"../b","h":"_b","i":false,"j":false,"k":"/X","l":true}
{"a":"/A/B?Q=1","b":"-/a/b?q=1","c":"/a/b?q=1!","d":"a/b?q=1","e":"/a/b","f":8,"g":"/a/b","h":"_a_b?q=1","i":true,"j":true,"k":"/X/b?q=1","l":false}
{"b":"abc-"}
{"a":"/Ä","b":"-/ä","c":"/ä!","d":"ä","e":"/ä","f":2,"g":"../ä","h":"_ä","i":false,"j":false,"k":"/ä","l":false}
