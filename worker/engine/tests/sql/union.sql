-- UNION removes duplicates.
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
--- policy
stateTtl 3600
--- step s
SELECT item FROM bids WHERE price > 3 UNION SELECT item FROM bids WHERE price < 3
--- output out from s
item Utf8 (revised, key item)
+I {"item":"a"}
+I {}
+I {"item":"b"}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/filter/0 ← bids
    price > 3
s/filter/1 ← bids
    price < 3
s/union/0 ← s/filter/0, s/filter/1
    item
s/aggregate/0 ← s/union/0
    item (kept for 3600s)
output out ← s/aggregate/0
    item Utf8
exchange s.aggregate.0.0 ← s/union/0
    by item
