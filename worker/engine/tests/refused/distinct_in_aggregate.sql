-- DISTINCT in an aggregate that does not know it.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT window_end, median(DISTINCT price) AS m, stddev(DISTINCT price) AS d FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_end
--- output out from s
--- problems
NotSupported | step s | stddev(DISTINCT __common_expr_1 AS bids.price) is not supported: This feature is not implemented: STDDEV_POP(DISTINCT) aggregations are not available | write it in another way
