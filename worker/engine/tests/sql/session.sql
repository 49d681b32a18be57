-- SESSION: rows that are exactly the gap apart belong together.
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
SELECT window_start, window_end, item, count(*) AS n, sum(price) AS total, array_agg(price) AS prices
FROM TABLE(SESSION(TABLE bids PARTITION BY item, DESCRIPTOR(ts), INTERVAL '8' SECONDS))
GROUP BY item, window_start, window_end
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, n Int64, total Int64, prices List(Int64)
{"window_start":"2026-11-01T10:00:08","window_end":"2026-11-01T10:00:16","item":"c","n":1,"total":3,"prices":[3]}
{"window_start":"2026-11-01T10:00:03","window_end":"2026-11-01T10:00:18","item":"b","n":2,"total":3,"prices":[2,1]}
{"window_start":"2026-11-01T10:00:01","window_end":"2026-11-01T10:00:27","item":"a","n":4,"total":15,"prices":[4,5,null,6]}
{"window_start":"2026-11-01T10:00:21","window_end":"2026-11-01T10:00:29","n":1,"total":7,"prices":[7]}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/session_aggregate/0 ← bids
    SESSION(gap 8s): item, window_start, window_end, count(*), sum(price), array_agg(price)
s/project/0 ← s/session_aggregate/0
    window_start, window_end, item, "count(Int64(1))" AS n, "sum(bids.price)" AS total, "array_agg(bids.price)" AS prices
output out ← s/project/0
    window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, n Int64, total Int64, prices List(Int64)
exchange s.session_aggregate.0.0 ← bids
    by item
