-- TUMBLE in the words of Flink.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
{"ts":"2026-11-01T10:00:03","item":"b","price":2}
{"ts":"2026-11-01T10:00:11","item":"a","price":5}
{"ts":"2026-11-01T10:00:08","item":"c","price":3}
{"ts":"2026-11-01T10:00:09","item":"a","price":null}
{"ts":"2026-11-01T10:00:10","item":"b","price":1}
{"ts":"2026-11-01T10:00:21","item":null,"price":7}
{"ts":"2026-11-01T10:00:19","item":"a","price":6}
--- step s
SELECT window_start, window_end, item, count(*) AS n, sum(price) AS total
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECONDS))
GROUP BY window_start, window_end, item
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, n Int64, total Int64
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","n":2,"total":4}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"b","n":1,"total":2}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"c","n":1,"total":3}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","item":"a","n":2,"total":11}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","item":"b","n":1,"total":1}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:30","n":1,"total":7}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/window_aggregate/0 ← bids
    TUMBLE(size 10s): window_start, window_end, item, count(*), sum(price)
s/project/0 ← s/window_aggregate/0
    window_start, window_end, item, "count(Int64(1))" AS n, "sum(bids.price)" AS total
output out ← s/project/0
    window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, n Int64, total Int64
exchange s.window_aggregate.0.0 ← bids
    by item
