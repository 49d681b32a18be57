-- Both sides padded; a row without a key at once.
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
--- step s
SELECT a.id, a.seller, b.auction, b.price FROM auction a FULL JOIN bid b ON a.seller = b.bidder - 10 AND b.time BETWEEN a.time AND a.time + INTERVAL '2' SECOND
--- output out from s
id Int64, seller Int64, auction Int64, price Int64
{"id":4}
{"id":1,"seller":10,"auction":1,"price":100}
{"id":2,"seller":11}
{"id":3,"seller":10}
{"auction":1,"price":300}
{"auction":2,"price":300}
{"auction":1,"price":300}
{"auction":9,"price":50}
{"auction":1,"price":900}
{"auction":3,"price":70}
{"price":70}
--- explain
input auction (3 of 5 columns)
    id Int64, seller Int64, time Timestamp(µs)
input bid (4 of 4 columns)
    auction Int64, bidder Int64, price Int64, time Timestamp(µs)
s/project/0 ← bid
    bidder - 10 AS b.bidder - Int64(10), auction, price, time
s/join/0 ← auction, s/project/0
    full on left.seller = right.b.bidder - Int64(10) AND left.time - right.time from -2000000 to 0 µs; kept for the interval
output out ← s/join/0
    id Int64, seller Int64, auction Int64, price Int64
exchange s.join.0.0 ← auction
    by seller
exchange s.join.0.1 ← s/project/0
    by b.bidder - Int64(10)
