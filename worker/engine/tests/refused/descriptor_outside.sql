-- DESCRIPTOR where no window is.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT DESCRIPTOR(ts) AS d FROM bids
--- output out from s
--- problems
NotSupported | step s, line 1, column 8 | DESCRIPTOR outside of FROM is not supported | write FROM TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE)
