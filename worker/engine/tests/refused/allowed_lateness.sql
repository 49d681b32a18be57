-- Windows that are revised for late rows.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
--- policy
allowedLateness 5
--- step s
SELECT window_end, count(*) AS n FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY window_start, window_end
--- output out from s
--- problems
NotSupported | step s, line 2, column 1 | a window that is revised for late rows (an allowed lateness above zero) is not supported | leave it out, and give the Source the delay that is to be waited for
