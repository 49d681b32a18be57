-- A regular join of tables that are only appended to: each pair once, NULL meets none; the condition that is no equality is checked for each pair.
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
SELECT a.id, b.bidder, b.price, a.category FROM auction a JOIN bid b ON a.id = b.auction AND b.price > a.category * 20
--- output out from s
id Int64, bidder Int64, price Int64, category Int64
{"id":1,"bidder":21,"price":300,"category":7}
{"id":2,"bidder":20,"price":300,"category":7}
{"id":1,"bidder":22,"price":300,"category":7}
{"id":1,"bidder":20,"price":900,"category":7}
--- explain
input auction (3 of 5 columns)
    id Int64, category Int64, time Timestamp(µs)
input bid (4 of 4 columns)
    auction Int64, bidder Int64, price Int64, time Timestamp(µs)
s/join/0 ← auction, bid
    inner on left.id = right.auction AND price > category * 20; kept for 3600 s
s/project/0 ← s/join/0
    id, bidder, price, category
output out ← s/project/0
    id Int64, bidder Int64, price Int64, category Int64
exchange s.join.0.0 ← auction
    by id
exchange s.join.0.1 ← bid
    by auction
