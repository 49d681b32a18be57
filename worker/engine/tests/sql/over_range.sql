-- Aggregates over a range of event time: rows wait for the watermark; no time to live is needed.
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
--- step s
SELECT bidder, price, time, sum(price) OVER (PARTITION BY bidder ORDER BY time RANGE BETWEEN INTERVAL '6' SECOND PRECEDING AND CURRENT ROW) AS spent FROM bid
--- output out from s
bidder Int64, price Int64, time Timestamp(µs), spent Int64
{"bidder":20,"price":100,"time":"2026-11-01T10:00:01","spent":100}
{"bidder":21,"price":300,"time":"2026-11-01T10:00:02","spent":300}
{"bidder":20,"price":300,"time":"2026-11-01T10:00:04","spent":400}
{"bidder":22,"price":300,"time":"2026-11-01T10:00:07","spent":300}
{"bidder":20,"price":50,"time":"2026-11-01T10:00:09","spent":350}
{"bidder":20,"price":900,"time":"2026-11-01T10:00:10","spent":1250}
{"bidder":21,"price":70,"time":"2026-11-01T10:00:14","spent":70}
{"bidder":21,"price":70,"time":"2026-11-01T10:00:21","spent":70}
--- explain
input bid (3 of 4 columns)
    bidder Int64, price Int64, time Timestamp(µs)
s/over/0 ← bid
    sum(price) over 6000000 µs before of each bidder by time
s/project/0 ← s/over/0
    bidder, price, time, "sum(bid.price) PARTITION BY [bid.bidder] ORDER BY [bid.time ASC NULLS FIRST] RANGE BETWEEN 6 SECOND PRECEDING AND CURRENT ROW" AS spent
output out ← s/project/0
    bidder Int64, price Int64, time Timestamp(µs), spent Int64
exchange s.over.0.0 ← bid
    by bidder
