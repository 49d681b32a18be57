-- Functions as Flink defines them, and names in backquotes.
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
SELECT SPLIT_INDEX(path, '/', 1) AS a, SPLIT_INDEX(`path`, '/', 2) AS b, SPLIT_INDEX(client, '.', -1) AS c, REGEXP_EXTRACT(path, '(/)([^?]*)', 2) AS d, REGEXP_EXTRACT(path, 'q=.') AS e, count_char(client, '.') AS f, count_char(client, SPLIT_INDEX('.,0', ',', 1)) AS `g H`, MOD(bytes, 7) AS i, MOD(-status, 3) AS j FROM logs WHERE MOD(bytes, 3) <> 1 OR bytes IS NULL
--- output out from s
a Utf8View, b Utf8View, c Utf8View, d Utf8View, e Utf8View, f Int64, g H Int64, i Int64, j Int64
{"a":"b","d":"b","f":3,"g H":3,"i":0,"j":-2}
{"f":0,"g H":0,"j":-2}
{"a":"ä","d":"ä","f":0,"g H":0,"i":5}
--- explain
input logs (4 of 5 columns)
    status Int32, path Utf8, bytes Int64, client Utf8
s/filter/0 ← logs
    bytes % 3 != 1 OR bytes IS NULL
s/project/0 ← s/filter/0
    split_index(path, '/', 1) AS a, split_index(path, '/', 2) AS b, split_index(client, '.', -1) AS c, regexp_extract(path, '(/)([^?]*)', 2) AS d, regexp_extract(path, 'q=.') AS e, count_char(client, '.') AS f, count_char(client, '0') AS g H, bytes % 7 AS i, CAST((- status) AS Int64) % 3 AS j
output out ← s/project/0
    a Utf8View, b Utf8View, c Utf8View, d Utf8View, e Utf8View, f Int64, g H Int64, i Int64, j Int64
