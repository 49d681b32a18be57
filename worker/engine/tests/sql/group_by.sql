-- GROUP BY without a window: results are revised.
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
SELECT item, count(*) AS n, sum(price) AS total, min(price) AS lo, max(price) AS hi, avg(price) AS a, array_agg(price) AS all_prices
FROM bids GROUP BY item
--- output out from s
item Utf8, n Int64, total Int64, lo Int64, hi Int64, a Float64, all_prices List(Int64) (revised, key item)
+I {"item":"a","n":1,"total":4,"lo":4,"hi":4,"a":4.0,"all_prices":[4]}
+I {"item":"b","n":1,"total":2,"lo":2,"hi":2,"a":2.0,"all_prices":[2]}
-U {"item":"a","n":1,"total":4,"lo":4,"hi":4,"a":4.0,"all_prices":[4]}
+U {"item":"a","n":2,"total":9,"lo":4,"hi":5,"a":4.5,"all_prices":[4,5]}
+I {"item":"c","n":1,"total":3,"lo":3,"hi":3,"a":3.0,"all_prices":[3]}
-U {"item":"a","n":2,"total":9,"lo":4,"hi":5,"a":4.5,"all_prices":[4,5]}
+U {"item":"a","n":3,"total":9,"lo":4,"hi":5,"a":4.5,"all_prices":[4,5,null]}
-U {"item":"b","n":1,"total":2,"lo":2,"hi":2,"a":2.0,"all_prices":[2]}
+U {"item":"b","n":2,"total":3,"lo":1,"hi":2,"a":1.5,"all_prices":[2,1]}
+I {"n":1,"total":7,"lo":7,"hi":7,"a":7.0,"all_prices":[7]}
-U {"item":"a","n":3,"total":9,"lo":4,"hi":5,"a":4.5,"all_prices":[4,5,null]}
+U {"item":"a","n":4,"total":15,"lo":4,"hi":6,"a":5.0,"all_prices":[4,5,null,6]}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/project/0 ← bids
    item, price, CAST(price AS Float64) AS bids.price
s/aggregate/0 ← s/project/0
    item, count(*), sum(price), min(price), max(price), avg(CAST(price AS Float64)), array_agg(price) (kept for 3600s)
s/project/1 ← s/aggregate/0
    item, "count(Int64(1))" AS n, "sum(bids.price)" AS total, "min(bids.price)" AS lo, "max(bids.price)" AS hi, "avg(bids.price)" AS a, "array_agg(bids.price)" AS all_prices
output out ← s/project/1
    item Utf8, n Int64, total Int64, lo Int64, hi Int64, a Float64, all_prices List(Int64)
exchange s.aggregate.0.0 ← s/project/0
    by item
