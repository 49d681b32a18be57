-- Arrays, structs, maps and lambdas.
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
SELECT string_to_array(path, '/') AS a, string_to_array(path, '/')[2] AS b, [status, 1] AS c, {'s': status} AS d, named_struct('x', bytes)['x'] AS e, array_length([1,2,3]) AS f, array_transform([1,2], v -> v * status) AS g, array_has(['/a', '/b'], path) AS h FROM logs
--- output out from s
a List(Utf8), b Utf8, c List(Int64), d Struct("s": Int32), e Int64, f UInt64, g List(Int64), h Boolean
{"a":["","a"],"b":"a","c":[200,1],"d":{"s":200},"e":10,"f":3,"g":[200,400],"h":true}
{"a":["","b"],"b":"b","c":[404,1],"d":{"s":404},"e":0,"f":3,"g":[404,808],"h":true}
{"a":["","a","b?q=1"],"b":"a","c":[500,1],"d":{"s":500},"e":70,"f":3,"g":[500,1000],"h":false}
{"c":[503,1],"d":{"s":503},"f":3,"g":[503,1006]}
{"a":["","ä"],"b":"ä","c":[null,1],"d":{},"e":5,"f":3,"g":[null,null],"h":false}
--- explain
input logs (3 of 5 columns)
    status Int32, path Utf8, bytes Int64
s/project/0 ← logs
    string_to_array(path, '/') AS __common_expr_1, CAST(status AS Int64) AS __common_expr_2, status, path, bytes
s/project/1 ← s/project/0
    __common_expr_1 AS a, array_element(__common_expr_1, 2) AS b, make_array(__common_expr_2, 1) AS c, named_struct('s', status) AS d, bytes AS e, 3 AS f, array_transform(List([1, 2]), (v) -> v * __common_expr_2) AS g, path = '/a' OR path = '/b' AS h
output out ← s/project/1
    a List(Utf8), b Utf8, c List(Int64), d Struct("s": Int32), e Int64, f UInt64, g List(Int64), h Boolean
