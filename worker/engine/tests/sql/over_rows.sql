-- Aggregates over rows, each of its own frame, and all rows before.
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
SELECT bidder, price,
  count(*) OVER (PARTITION BY bidder ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n,
  avg(price) OVER (PARTITION BY bidder ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS mean,
  max(price) OVER (PARTITION BY bidder ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS most
FROM bid
--- output out from s
bidder Int64, price Int64, n Int64, mean Float64, most Int64
{"bidder":20,"price":100,"n":1,"mean":100.0,"most":100}
{"bidder":21,"price":300,"n":1,"mean":300.0,"most":300}
{"bidder":20,"price":300,"n":2,"mean":200.0,"most":300}
{"bidder":22,"price":300,"n":1,"mean":300.0,"most":300}
{"bidder":20,"price":50,"n":3,"mean":175.0,"most":300}
{"bidder":20,"price":900,"n":4,"mean":475.0,"most":900}
{"bidder":21,"price":70,"n":2,"mean":185.0,"most":300}
{"bidder":21,"price":70,"n":3,"mean":70.0,"most":70}
--- explain
input bid (3 of 4 columns)
    bidder Int64, price Int64, time Timestamp(µs)
s/project/0 ← bid
    bidder, time, CAST(price AS Float64) AS bid.price, price
s/over/0 ← s/project/0
    count(*) over all rows before, avg(CAST(price AS Float64)) over 1 rows before, max(price) over 1 rows before of each bidder by time
s/project/1 ← s/over/0
    bidder, price, "count(Int64(1)) PARTITION BY [bid.bidder] ORDER BY [bid.time ASC NULLS FIRST] ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW" AS n, "avg(bid.price) PARTITION BY [bid.bidder] ORDER BY [bid.time ASC NULLS FIRST] ROWS BETWEEN 1 PRECEDING AND CURRENT ROW" AS mean, "max(bid.price) PARTITION BY [bid.bidder] ORDER BY [bid.time ASC NULLS FIRST] ROWS BETWEEN 1 PRECEDING AND CURRENT ROW" AS most
output out ← s/project/1
    bidder Int64, price Int64, n Int64, mean Float64, most Int64
exchange s.over.0.0 ← s/project/0
    by bidder
