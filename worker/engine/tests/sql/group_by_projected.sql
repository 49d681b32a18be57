-- A projection without the key of what is revised.
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
SELECT n * 2 AS twice FROM (SELECT item, count(*) AS n FROM bids GROUP BY item) AS q
--- output out from s
twice Int64 (revised, key )
+I {"twice":2}
+I {"twice":2}
-U {"twice":2}
+U {"twice":4}
+I {"twice":2}
-U {"twice":4}
+U {"twice":6}
-U {"twice":2}
+U {"twice":4}
+I {"twice":2}
-U {"twice":6}
+U {"twice":8}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), item Utf8
s/aggregate/0 ← bids
    count(*) (kept for 3600s)
s/project/0 ← s/aggregate/0
    n * 2 AS twice
output out ← s/project/0
    twice Int64
exchange s.aggregate.0.0 ← bids
    by item
