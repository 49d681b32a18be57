-- Processing time is a column of a SELECT list, and nothing else.
--- input logs
time Timestamp(µs, "UTC")
status Int32
{"time":"2026-11-01T10:00:00Z","status":200}
--- step s
SELECT status FROM logs WHERE PROCTIME() > time
--- step t
SELECT PROCTIME(), count(*) FROM logs GROUP BY PROCTIME()
--- step u
SELECT a.status FROM logs a JOIN logs b ON a.status = b.status AND b.time < PROCTIME()
--- output out from s
--- problems
NotSupported | step s | PROCTIME() outside of the list of SELECT is not supported | select PROCTIME() AS a column in a step or subquery below, and use that
NotSupported | step t | PROCTIME() outside of the list of SELECT is not supported | select PROCTIME() AS a column in a step or subquery below, and use that
NotSupported | step u | PROCTIME() outside of the list of SELECT is not supported | select PROCTIME() AS a column in a step or subquery below, and use that
