-- SESSION grouped by other columns than it is partitioned by.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT item, price, window_start, window_end, count(*) AS n
FROM SESSION(TABLE bids PARTITION BY item, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY item, price, window_start, window_end
--- output out from s
--- problems
NotSupported | step s, line 2, column 6 | SESSION without GROUP BY window_start, window_end and what it is partitioned by, right above it, is not supported | group in the same step, and filter in a step or subquery below: a session is known only when it has ended
