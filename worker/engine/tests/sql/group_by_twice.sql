-- An aggregate over an aggregate takes back what it has counted.
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
WITH per_item AS (SELECT item, count(*) AS n, sum(price) AS total FROM bids GROUP BY item)
SELECT n, count(*) AS items, sum(total) AS total, min(total) AS lo, max(item) AS last, count(DISTINCT total) AS totals, array_agg(item) AS items_of, stddev(total) AS d, count(*) FILTER (WHERE total > 3) AS big
FROM per_item GROUP BY n
--- output out from s
n Int64, items Int64, total Int64, lo Int64, last Utf8, totals Int64, items_of List(Utf8), d Float64, big Int64 (revised, key n)
+I {"n":1,"items":2,"total":6,"lo":2,"last":"b","totals":2,"items_of":["a","b"],"d":1.4142135623730951,"big":1}
-U {"n":1,"items":2,"total":6,"lo":2,"last":"b","totals":2,"items_of":["a","b"],"d":1.4142135623730951,"big":1}
+U {"n":1,"items":2,"total":5,"lo":2,"last":"c","totals":2,"items_of":["b","c"],"d":0.7071067811865476,"big":0}
+I {"n":2,"items":1,"total":9,"lo":9,"last":"a","totals":1,"items_of":["a"],"big":1}
-U {"n":2,"items":1,"total":9,"lo":9,"last":"a","totals":1,"items_of":["a"],"big":1}
+U {"n":2,"items":1,"total":3,"lo":3,"last":"b","totals":1,"items_of":["b"],"big":0}
+I {"n":3,"items":1,"total":9,"lo":9,"last":"a","totals":1,"items_of":["a"],"big":1}
-U {"n":1,"items":2,"total":5,"lo":2,"last":"c","totals":2,"items_of":["b","c"],"d":0.7071067811865476,"big":0}
+U {"n":1,"items":1,"total":3,"lo":3,"last":"c","totals":1,"items_of":["c"],"big":0}
-U {"n":1,"items":1,"total":3,"lo":3,"last":"c","totals":1,"items_of":["c"],"big":0}
+U {"n":1,"items":2,"total":10,"lo":3,"last":"c","totals":2,"items_of":["c",null],"d":2.8284271247461903,"big":1}
-D {"n":3,"items":1,"total":9,"lo":9,"last":"a","totals":1,"items_of":["a"],"big":1}
+I {"n":4,"items":1,"total":15,"lo":15,"last":"a","totals":1,"items_of":["a"],"big":1}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/aggregate/0 ← bids
    item, count(*), sum(price) (kept for 3600s)
s/project/0 ← s/aggregate/0
    n AS count(Int64(1)), total AS sum(bids.price), item, CAST(total AS Float64) AS per_item.total, total > 3 AS per_item.total > Int64(3)
s/aggregate/1 ← s/project/0
    n, count(*), sum(total), min(total), max(item), count(DISTINCT total), array_agg(item), stddev(CAST(total AS Float64)), count(*) FILTER (WHERE total > 3) (kept for 3600s, takes rows back)
s/project/1 ← s/aggregate/1
    n, "count(Int64(1))" AS items, "sum(per_item.total)" AS total, "min(per_item.total)" AS lo, "max(per_item.item)" AS last, "count(DISTINCT per_item.total)" AS totals, "array_agg(per_item.item)" AS items_of, "stddev(per_item.total)" AS d, "count(Int64(1)) FILTER (WHERE per_item.total > Int64(3))" AS big
output out ← s/project/1
    n Int64, items Int64, total Int64, lo Int64, last Utf8, totals Int64, items_of List(Utf8), d Float64, big Int64
no exchange
    operator s/aggregate/1 brings rows together by count(*), which says nothing of where they are after operator s/aggregate/0 by item: they would have to be exchanged a second time, which is not supported; keep a column of the earlier key, as it is, in the key of s/aggregate/1
