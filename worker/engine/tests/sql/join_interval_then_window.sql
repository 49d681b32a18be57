-- The event time is still one after an interval join.
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
--- step joined
SELECT b.price, b.time FROM auction a JOIN bid b ON a.id = b.auction AND b.time BETWEEN a.time AND a.expires AND a.time >= b.time - INTERVAL '20' SECOND
--- step s
SELECT window_start, count(*) AS n, max(price) AS price
FROM TUMBLE(TABLE joined, DESCRIPTOR(time), INTERVAL '10' SECOND) GROUP BY window_start, window_end
--- output out from s
window_start Timestamp(µs), n Int64, price Int64
{"window_start":"2026-11-01T10:00:00","n":4,"price":300}
{"window_start":"2026-11-01T10:00:10","n":1,"price":70}
--- explain
input auction (3 of 5 columns)
    id Int64, time Timestamp(µs), expires Timestamp(µs)
input bid (3 of 4 columns)
    auction Int64, price Int64, time Timestamp(µs)
joined/join/0 ← auction, bid
    inner on left.id = right.auction AND left.time - right.time from -20000000 to 0 µs AND time <= expires; kept for the interval
s/window_aggregate/0 ← joined/join/0
    TUMBLE(size 10s): window_start, count(*), max(price)
s/project/0 ← s/window_aggregate/0
    window_start, "count(Int64(1))" AS n, "max(joined.price)" AS price
output out ← s/project/0
    window_start Timestamp(µs), n Int64, price Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
