-- Padded when the window ends.
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
SELECT a.id, a.window_end, b.price FROM TUMBLE(TABLE auction, DESCRIPTOR(time), INTERVAL '10' SECOND) a
LEFT JOIN TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '10' SECOND) b ON a.id = b.auction AND a.window_end = b.window_end AND a.window_start = b.window_start AND b.price > 100
--- output out from s
id Int64, window_end Timestamp(µs), price Int64
{"id":1,"window_end":"2026-11-01T10:00:10","price":300}
{"id":2,"window_end":"2026-11-01T10:00:10","price":300}
{"id":1,"window_end":"2026-11-01T10:00:10","price":300}
{"id":3,"window_end":"2026-11-01T10:00:20"}
{"id":4,"window_end":"2026-11-01T10:00:20"}
--- explain
input auction (2 of 5 columns)
    id Int64, time Timestamp(µs)
input bid (3 of 4 columns)
    auction Int64, price Int64, time Timestamp(µs)
s/window/0 ← auction
    TUMBLE(size 10s) of time
s/filter/0 ← bid
    price > 100
s/window/1 ← s/filter/0
    TUMBLE(size 10s) of time
s/join/0 ← s/window/0, s/window/1
    left on left.id = right.auction AND left.window_end = right.window_end AND left.window_start = right.window_start; kept until the window ends
output out ← s/join/0
    id Int64, window_end Timestamp(µs), price Int64
exchange s.join.0.0 ← s/window/0
    by id, window_end, window_start
exchange s.join.0.1 ← s/window/1
    by auction, window_end, window_start
