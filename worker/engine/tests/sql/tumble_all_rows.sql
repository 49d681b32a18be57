-- TUMBLE without a key: one row for each window that has rows.
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
SELECT window_start, count(*) AS n, avg(price) AS a, min(item) AS first, max(price) - min(price) AS spread
FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY window_start, window_end
--- output out from s
window_start Timestamp(ms), n Int64, a Float64, first Utf8, spread Int64
{"window_start":"2026-11-01T10:00:00","n":4,"a":3.0,"first":"a","spread":2}
{"window_start":"2026-11-01T10:00:10","n":3,"a":4.0,"first":"a","spread":5}
{"window_start":"2026-11-01T10:00:20","n":1,"a":7.0,"spread":0}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/project/0 ← bids
    CAST(price AS Float64) AS bids.price, item, price, window_end AS ts
s/window_aggregate/0 ← s/project/0
    TUMBLE(size 10s): window_start, count(*), avg(CAST(price AS Float64)), min(item), max(price), min(price)
s/project/1 ← s/window_aggregate/0
    window_start, "count(Int64(1))" AS count(*) AS n, "avg(bids.price)" AS a, "min(bids.item)" AS first, "max(bids.price)" - "min(bids.price)" AS spread
output out ← s/project/1
    window_start Timestamp(ms), n Int64, a Float64, first Utf8, spread Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
