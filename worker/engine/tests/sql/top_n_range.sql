-- Numbers from a lower bound on; over all rows; by an expression. NULL is the lowest.
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
SELECT auction, n FROM (SELECT auction, ROW_NUMBER() OVER (ORDER BY auction * 2, price % 7) AS n FROM bid) WHERE n BETWEEN 1 AND 3
--- output out from s
auction Int64, n UInt64 (revised, key n)
+I {"n":1}
+I {"auction":1,"n":2}
+I {"auction":1,"n":3}
--- explain
input bid (3 of 4 columns)
    auction Int64, price Int64, time Timestamp(µs)
s/project/0 ← bid
    auction * 2 AS bid.auction * Int64(2), price % 7 AS bid.price % Int64(7), auction
s/rank/0 ← s/project/0
    row 1 to 3 by bid.auction * Int64(2), bid.price % Int64(7); at once, revised later; kept for 3600 s
s/project/1 ← s/rank/0
    auction, "row_number() ORDER BY [bid.auction * Int64(2) ASC NULLS FIRST, bid.price % Int64(7) ASC NULLS FIRST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW" AS n
output out ← s/project/1
    auction Int64, n UInt64
no exchange
    operator s/rank/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
