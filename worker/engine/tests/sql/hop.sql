-- HOP: every row is in size / slide windows.
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
SELECT window_start, window_end, item, sum(price) AS total, count(DISTINCT price) AS prices
FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECONDS, INTERVAL '10' SECONDS))
GROUP BY window_start, window_end, item
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, total Int64, prices Int64
{"window_start":"2026-11-01T09:59:55","window_end":"2026-11-01T10:00:05","item":"a","total":4,"prices":1}
{"window_start":"2026-11-01T09:59:55","window_end":"2026-11-01T10:00:05","item":"b","total":2,"prices":1}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","total":4,"prices":1}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"b","total":2,"prices":1}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"c","total":3,"prices":1}
{"window_start":"2026-11-01T10:00:05","window_end":"2026-11-01T10:00:15","item":"c","total":3,"prices":1}
{"window_start":"2026-11-01T10:00:05","window_end":"2026-11-01T10:00:15","item":"a","total":5,"prices":1}
{"window_start":"2026-11-01T10:00:05","window_end":"2026-11-01T10:00:15","item":"b","total":1,"prices":1}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","item":"a","total":11,"prices":2}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","item":"b","total":1,"prices":1}
{"window_start":"2026-11-01T10:00:15","window_end":"2026-11-01T10:00:25","item":"a","total":6,"prices":1}
{"window_start":"2026-11-01T10:00:15","window_end":"2026-11-01T10:00:25","total":7,"prices":1}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:30","total":7,"prices":1}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/window_aggregate/0 ← bids
    HOP(slide 5s, size 10s): window_start, window_end, item, sum(price), count(DISTINCT price)
s/project/0 ← s/window_aggregate/0
    window_start, window_end, item, "sum(bids.price)" AS total, "count(DISTINCT bids.price)" AS prices
output out ← s/project/0
    window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, total Int64, prices Int64
exchange s.window_aggregate.0.0 ← bids
    by item
