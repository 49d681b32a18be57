-- Problems of several steps at once; steps that read a step with problems say nothing.
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
--- step a
SELECT nope FROM logs
--- step b
SELECT path FROM a ORDER BY path
--- step c
SELECT path FROM a
--- step d
SELEC
--- output out from c
--- output other from missing
--- problems
NotSupported | step b, line 1, column 20 | ORDER BY is not supported | remove it: a stream has no end at which it could be sorted; sort where the output is read
SyntaxError | step d, line 1, column 1 | Expected: an SQL statement, found: SELEC | a step is one SELECT
UnknownColumn | step a, line 1, column 8 | there is no column nope | there are: time, status, path, bytes, client
UnknownTable | output other | there is no step or input missing | inputs and steps are: logs, a, b, c, d
