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
--- explain
