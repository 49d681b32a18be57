-- QUALIFY says the same.
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
SELECT auction, bidder, price FROM bid QUALIFY row_number() OVER (PARTITION BY auction ORDER BY price DESC) = 1
--- output out from s
auction Int64, bidder Int64, price Int64 (revised, key auction)
+I {"auction":1,"bidder":20,"price":900}
+I {"auction":2,"bidder":20,"price":300}
+I {"auction":9,"bidder":20,"price":50}
+I {"auction":3,"bidder":21,"price":70}
+I {"bidder":21,"price":70}
--- explain
input bid (4 of 4 columns)
    auction Int64, bidder Int64, price Int64, time Timestamp(µs)
s/rank/0 ← bid
    row 1 of each auction by price DESC; at once, revised later; kept for 3600 s
output out ← s/rank/0
    auction Int64, bidder Int64, price Int64
exchange s.rank.0.0 ← bid
    by auction
