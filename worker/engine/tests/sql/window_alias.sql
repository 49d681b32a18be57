-- An alias, and a condition on the window.
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
SELECT w.window_end, w.item, count(*) AS n FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND) AS w
WHERE w.price > 1 AND w.window_start >= TIMESTAMP '2026-11-01T10:00:10'
GROUP BY w.window_start, w.window_end, w.item
--- output out from s
window_end Timestamp(ms), item Utf8, n Int64
{"window_end":"2026-11-01T10:00:20","item":"a","n":2}
{"window_end":"2026-11-01T10:00:30","n":1}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/filter/0 ← bids
    price > 1
s/window/0 ← s/filter/0
    TUMBLE(size 10s) of ts
s/filter/1 ← s/window/0
    window_start >= TimestampMillisecond(1793527210000, None)
s/window_aggregate/0 ← s/filter/1
    window_start, window_end: window_end, item, count(*)
s/project/0 ← s/window_aggregate/0
    window_end, item, "count(Int64(1))" AS n
output out ← s/project/0
    window_end Timestamp(ms), item Utf8, n Int64
exchange s.window_aggregate.0.0 ← s/filter/1
    by item
