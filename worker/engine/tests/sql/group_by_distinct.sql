-- DISTINCT and FILTER in aggregates that are revised.
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
SELECT count(DISTINCT item) AS items, count(DISTINCT item) FILTER (WHERE price > 3) AS dear, sum(6 / price) FILTER (WHERE price <> 0) AS q, bool_or(price > 6) AS b, first_value(price) AS f, median(price) AS m FROM bids
--- output out from s
items Int64, dear Int64, q Int64, b Boolean, f Int64, m Float64 (revised, key )
+I {"items":2,"dear":1,"q":4,"b":false,"f":4,"m":3.0}
-U {"items":2,"dear":1,"q":4,"b":false,"f":4,"m":3.0}
+U {"items":3,"dear":1,"q":7,"b":false,"f":4,"m":3.5}
-U {"items":3,"dear":1,"q":7,"b":false,"f":4,"m":3.5}
+U {"items":3,"dear":1,"q":13,"b":false,"f":4,"m":3.0}
-U {"items":3,"dear":1,"q":13,"b":false,"f":4,"m":3.0}
+U {"items":3,"dear":1,"q":14,"b":true,"f":4,"m":4.0}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/project/0 ← bids
    item, price > 3 AS bids.price > Int64(3), CASE WHEN price != 0 THEN 6 / price END AS CASE WHEN bids.price != Int64(0) THEN Int64(6) / bids.price END, price != 0 AS bids.price != Int64(0), price > 6 AS bids.price > Int64(6), price, CAST(price AS Float64) AS bids.price
s/aggregate/0 ← s/project/0
    count(DISTINCT item), count(DISTINCT item) FILTER (WHERE price > 3), sum(6 / price) FILTER (WHERE price != 0), bool_or(price > 6), first_value(price), median(CAST(price AS Float64)) (kept for 3600s)
s/project/1 ← s/aggregate/0
    "count(DISTINCT bids.item)" AS items, "count(DISTINCT bids.item) FILTER (WHERE bids.price > Int64(3))" AS dear, "sum(Int64(6) / bids.price) FILTER (WHERE bids.price != Int64(0))" AS q, "bool_or(bids.price > Int64(6))" AS b, "first_value(bids.price)" AS f, "median(bids.price)" AS m
output out ← s/project/1
    items Int64, dear Int64, q Int64, b Boolean, f Int64, m Float64
no exchange
    operator s/aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
