-- Rows of the left that meet none come out padded, and are taken back when another comes.
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
SELECT a.id, b.bidder, b.price FROM auction AS a LEFT JOIN bid AS b ON a.id = b.auction
--- output out from s
id Int64, bidder Int64, price Int64 (revised, key )
+I {"id":1}
+I {"id":2}
+I {"id":3}
+I {"id":4}
-D {"id":1}
+I {"id":1,"bidder":20,"price":100}
+I {"id":1,"bidder":21,"price":300}
-D {"id":2}
+I {"id":2,"bidder":20,"price":300}
+I {"id":1,"bidder":22,"price":300}
+I {"id":1,"bidder":20,"price":900}
-D {"id":3}
+I {"id":3,"bidder":21,"price":70}
--- explain
input auction (2 of 5 columns)
    id Int64, time Timestamp(µs)
input bid (4 of 4 columns)
    auction Int64, bidder Int64, price Int64, time Timestamp(µs)
s/join/0 ← auction, bid
    left on left.id = right.auction; kept for 3600 s
output out ← s/join/0
    id Int64, bidder Int64, price Int64
exchange s.join.0.0 ← auction
    by id
exchange s.join.0.1 ← bid
    by auction
