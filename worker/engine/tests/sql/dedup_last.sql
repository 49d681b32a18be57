-- Keep-last by event time: revised when a later row comes.
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
SELECT bidder, price, time FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder ORDER BY time DESC) AS n FROM bid) WHERE n <= 1
--- output out from s
bidder Int64, price Int64, time Timestamp(µs) (revised, key bidder)
+I {"bidder":20,"price":900,"time":"2026-11-01T10:00:10"}
+I {"bidder":21,"price":70,"time":"2026-11-01T10:00:21"}
+I {"bidder":22,"price":300,"time":"2026-11-01T10:00:07"}
--- explain
input bid (3 of 4 columns)
    bidder Int64, price Int64, time Timestamp(µs)
s/rank/0 ← bid
    row 1 of each bidder by time DESC, the last of equal rows; at once, revised later; kept for 3600 s
output out ← s/rank/0
    bidder Int64, price Int64, time Timestamp(µs)
exchange s.rank.0.0 ← bid
    by bidder
