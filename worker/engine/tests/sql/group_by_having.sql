-- HAVING over results that are revised: rows come and go.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
{"ts":"2026-11-01T10:00:03","item":"b","price":2}
watermark
{"ts":"2026-11-01T10:00:11","item":"a","price":5}
{"ts":"2026-11-01T10:00:08","item":"c","price":3}
watermark
{"ts":"2026-11-01T10:00:09","item":"a","price":null}
{"ts":"2026-11-01T10:00:10","item":"b","price":1}
watermark
{"ts":"2026-11-01T10:00:21","item":null,"price":7}
{"ts":"2026-11-01T10:00:19","item":"a","price":6}
--- policy
stateTtl 3600
--- step s
SELECT item, count(*) AS n FROM bids GROUP BY item HAVING count(*) = 2
--- output out from s
item Utf8, n Int64 (revised, key item)
+I {"item":"a","n":2}
-D {"item":"a","n":2}
+I {"item":"b","n":2}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), item Utf8
s/aggregate/0 ← bids
    item, count(*) (kept for 3600s)
s/filter/0 ← s/aggregate/0
    "count(Int64(1))" = 2
s/project/0 ← s/filter/0
    item, "count(Int64(1))" AS n
output out ← s/project/0
    item Utf8, n Int64
exchange s.aggregate.0.0 ← bids
    by item
