-- Top-N of rows that are taken back: others move up.
--- input auction
id Int64
seller Int64
category Int64
time Timestamp(µs) EVENT TIME maxDelay 0
expires Timestamp(µs)
{"id":1,"seller":10,"category":7,"time":"2026-11-01T10:00:00","expires":"2026-11-01T10:00:08"}
{"id":2,"seller":11,"category":7,"time":"2026-11-01T10:00:03","expires":"2026-11-01T10:00:09"}
{"id":3,"seller":10,"category":8,"time":"2026-11-01T10:00:12","expires":"2026-11-01T10:00:30"}
{"id":4,"seller":null,"category":8,"time":"2026-11-01T10:00:15","expires":"2026-11-01T10:00:30"}
--- input bid
auction Int64
bidder Int64
price Int64
time Timestamp(µs) EVENT TIME maxDelay 0
{"auction":1,"bidder":20,"price":100,"time":"2026-11-01T10:00:01"}
{"auction":1,"bidder":21,"price":300,"time":"2026-11-01T10:00:02"}
{"auction":2,"bidder":20,"price":300,"time":"2026-11-01T10:00:04"}
{"auction":1,"bidder":22,"price":300,"time":"2026-11-01T10:00:07"}
{"auction":9,"bidder":20,"price":50,"time":"2026-11-01T10:00:09"}
{"auction":1,"bidder":20,"price":900,"time":"2026-11-01T10:00:10"}
{"auction":3,"bidder":21,"price":70,"time":"2026-11-01T10:00:14"}
{"auction":null,"bidder":21,"price":70,"time":"2026-11-01T10:00:21"}
--- policy
stateTtl 3600
--- step s
SELECT category, id, price, n FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY category ORDER BY price DESC) AS n FROM (
    SELECT a.category, a.id, b.price FROM auction a LEFT JOIN bid b ON a.id = b.auction)
) WHERE n <= 2
--- output out from s
category Int64, id Int64, price Int64, n UInt64 (revised, key category, n)
+I {"category":7,"id":1,"n":1}
+I {"category":7,"id":2,"n":2}
+I {"category":8,"id":3,"n":1}
+I {"category":8,"id":4,"n":2}
-U {"category":7,"id":1,"n":1}
+U {"category":7,"id":1,"price":900,"n":1}
-U {"category":7,"id":2,"n":2}
+U {"category":7,"id":1,"price":300,"n":2}
-U {"category":8,"id":3,"n":1}
+U {"category":8,"id":3,"price":70,"n":1}
--- explain
input auction (3 of 5 columns)
    id Int64, category Int64, time Timestamp(µs)
input bid (3 of 4 columns)
    auction Int64, price Int64, time Timestamp(µs)
s/join/0 ← auction, bid
    left on left.id = right.auction; kept for 3600 s
s/rank/0 ← s/join/0
    row 1 to 2 of each category by price DESC; at once, revised later; kept for 3600 s
s/project/0 ← s/rank/0
    category, id, price, "row_number() PARTITION BY [a.category] ORDER BY [b.price DESC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW" AS n
output out ← s/project/0
    category Int64, id Int64, price Int64, n UInt64
no exchange
    operator s/rank/0 brings rows together by category, which says nothing of where they are after operator s/join/0 by id: they would have to be exchanged a second time, which is not supported; keep a column of the earlier key, as it is, in the key of s/rank/0
