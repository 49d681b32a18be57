-- SELECT DISTINCT.
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
SELECT DISTINCT item FROM bids
--- output out from s
item Utf8 (revised, key item)
+I {"item":"a"}
+I {"item":"b"}
+I {"item":"c"}
+I {}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), item Utf8
s/aggregate/0 ← bids
    item (kept for 3600s)
output out ← s/aggregate/0
    item Utf8
exchange s.aggregate.0.0 ← bids
    by item
