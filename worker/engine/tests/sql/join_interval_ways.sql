-- However the bounds are written, they are found.
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
--- step s0
SELECT a.id, b.price FROM auction a, bid b WHERE a.id = b.auction AND b.time >= a.time AND b.time <= a.time + INTERVAL '6' SECOND
--- step s1
SELECT a.id, b.price FROM auction a, bid b WHERE a.id = b.auction AND a.time <= b.time AND b.time - INTERVAL '6' SECOND <= a.time
--- step s2
SELECT a.id, b.price FROM auction a, bid b WHERE a.id = b.auction AND a.time BETWEEN b.time - INTERVAL '6' SECOND AND b.time
--- step s3
SELECT a.id, b.price FROM auction a, bid b WHERE a.id = b.auction AND b.time > a.time - INTERVAL '1' SECOND + INTERVAL '1' SECOND AND INTERVAL '6' SECOND + a.time >= b.time
--- output o0 from s0
id Int64, price Int64
{"id":1,"price":100}
{"id":1,"price":300}
{"id":2,"price":300}
{"id":3,"price":70}
--- output o1 from s1
id Int64, price Int64
{"id":1,"price":100}
{"id":1,"price":300}
{"id":2,"price":300}
{"id":3,"price":70}
--- output o2 from s2
id Int64, price Int64
{"id":1,"price":100}
{"id":1,"price":300}
{"id":2,"price":300}
{"id":3,"price":70}
--- output o3 from s3
id Int64, price Int64
{"id":1,"price":100}
{"id":1,"price":300}
{"id":2,"price":300}
{"id":3,"price":70}
--- explain
input auction (2 of 5 columns)
    id Int64, time Timestamp(µs)
input bid (3 of 4 columns)
    auction Int64, price Int64, time Timestamp(µs)
s0/join/0 ← auction, bid
    inner on left.id = right.auction AND left.time - right.time from -6000000 to 0 µs; kept for the interval
s1/join/0 ← auction, bid
    inner on left.id = right.auction AND left.time - right.time from -6000000 to 0 µs; kept for the interval
s2/join/0 ← auction, bid
    inner on left.id = right.auction AND left.time - right.time from -6000000 to 0 µs; kept for the interval
s3/join/0 ← auction, bid
    inner on left.id = right.auction AND left.time - right.time from -6000000 to -1 µs; kept for the interval
output o0 ← s0/join/0
    id Int64, price Int64
output o1 ← s1/join/0
    id Int64, price Int64
output o2 ← s2/join/0
    id Int64, price Int64
output o3 ← s3/join/0
    id Int64, price Int64
exchange s0.join.0.0 ← auction
    by id
exchange s0.join.0.1 ← bid
    by auction
