-- Windows that are revised for late rows are those of aggregates over TUMBLE, HOP and CUMULATE.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
--- policy
allowedLateness 5
--- step sessions
SELECT window_end, item, count(*) AS n FROM SESSION(TABLE bids PARTITION BY item, DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY window_start, window_end, item
--- step top
SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY price DESC) AS n FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE n <= 2
--- step joined
SELECT a.item, b.price FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND) a
JOIN TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND) b ON a.item = b.item AND a.window_end = b.window_end
--- output out from sessions
--- problems
NotSupported | step sessions, line 2, column 1 | SESSION that is revised for late rows (an allowed lateness above zero) is not supported | aggregate the windows first: results of TUMBLE, HOP and CUMULATE are revised; or leave allowedSeconds out, and give the Source the delay that is to be waited for
NotSupported | step top, line 1, column 26 | a top-N of windows that still take late rows (an allowed lateness above zero) is not supported | aggregate the windows first: results of TUMBLE, HOP and CUMULATE are revised; or leave allowedSeconds out, and give the Source the delay that is to be waited for
NotSupported | step joined, line 2, column 1 | a join of windows that still take late rows (an allowed lateness above zero) is not supported | aggregate the windows first: results of TUMBLE, HOP and CUMULATE are revised; or leave allowedSeconds out, and give the Source the delay that is to be waited for
