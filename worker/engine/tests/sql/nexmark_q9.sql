-- Nexmark q9: the winning bid of each auction, of a join whose result grows.
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
SELECT id, seller, auction, bidder, price, bid_time FROM (
  SELECT A.*, B.auction, B.bidder, B.price, B.time AS bid_time,
    ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.time ASC) AS rownum
  FROM auction A, bid B
  WHERE A.id = B.auction AND B.time BETWEEN A.time AND A.expires
)
WHERE rownum <= 1
--- output out from s
id Int64, seller Int64, auction Int64, bidder Int64, price Int64, bid_time Timestamp(µs) (revised, key id)
+I {"id":1,"seller":10,"auction":1,"bidder":21,"price":300,"bid_time":"2026-11-01T10:00:02"}
+I {"id":2,"seller":11,"auction":2,"bidder":20,"price":300,"bid_time":"2026-11-01T10:00:04"}
+I {"id":3,"seller":10,"auction":3,"bidder":21,"price":70,"bid_time":"2026-11-01T10:00:14"}
--- explain
input auction (4 of 5 columns)
    id Int64, seller Int64, time Timestamp(µs), expires Timestamp(µs)
input bid (4 of 4 columns)
    auction Int64, bidder Int64, price Int64, time Timestamp(µs)
s/join/0 ← auction, bid
    inner on left.id = right.auction AND time >= time AND time <= expires; kept for 3600 s
s/rank/0 ← s/join/0
    row 1 of each id by price DESC, time; at once, revised later; kept for 3600 s
s/project/0 ← s/rank/0
    id, seller, auction, bidder, price, time AS bid_time
output out ← s/project/0
    id Int64, seller Int64, auction Int64, bidder Int64, price Int64, bid_time Timestamp(µs)
exchange s.join.0.0 ← auction
    by id
exchange s.join.0.1 ← bid
    by auction
