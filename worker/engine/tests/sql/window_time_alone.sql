-- GROUP BY window_time alone.
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
SELECT window_time, count(*) AS n FROM (SELECT window_time, price + 1 AS p FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)) AS q WHERE p > 2 GROUP BY window_time
--- output out from s
window_time Timestamp(ms), n Int64
{"window_time":"2026-11-01T10:00:09.999","n":3}
{"window_time":"2026-11-01T10:00:19.999","n":2}
{"window_time":"2026-11-01T10:00:29.999","n":1}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), price Int64
s/filter/0 ← bids
    price + 1 > 2
s/window_aggregate/0 ← s/filter/0
    TUMBLE(size 10s): window_time, count(*)
s/project/0 ← s/window_aggregate/0
    window_time, "count(Int64(1))" AS n
output out ← s/project/0
    window_time Timestamp(ms), n Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
