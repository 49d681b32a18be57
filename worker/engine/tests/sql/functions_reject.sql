-- A value that a function cannot take rejects its row.
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
SELECT count_char(path, client) AS a FROM logs
--- output out from s
a Int64
{}
{}
--- rejected
out <- logs 0: operator s/project/0: `count_char(path, client)`: Execution error: count_char() counts one character, not '10.0.0.1' {"path":"/a","client":"10.0.0.1"}
out <- logs 1: operator s/project/0: `count_char(path, client)`: Execution error: count_char() counts one character, not '10.0.0.2' {"path":"/b","client":"10.0.0.2"}
out <- logs 4: operator s/project/0: `count_char(path, client)`: Execution error: count_char() counts one character, not '' {"path":"/ä","client":""}
