-- SESSION without an aggregate.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM SESSION(TABLE bids PARTITION BY item, DESCRIPTOR(ts), INTERVAL '10' SECOND)
--- output out from s
--- problems
NotSupported | step s, line 1, column 15 | SESSION without GROUP BY window_start, window_end and what it is partitioned by, right above it, is not supported | group in the same step, and filter in a step or subquery below: a session is known only when it has ended
