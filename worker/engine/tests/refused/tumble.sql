-- Windowing table functions.
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
SELECT window_start, count(*) AS n
FROM TUMBLE(TABLE logs, DESCRIPTOR(time), INTERVAL '1' MINUTE)
GROUP BY window_start
--- output out from s
--- problems
PlanInvalid | step s, line 2, column 36 | time is not an event time, so TUMBLE cannot know when a window is complete | name the column in spec.eventTime of the Source, with the delay that is to be waited for, and select it unchanged; for processing time, select PROCTIME() AS a column in a step or subquery below
