-- Nexmark q7: the highest bids of each window. The end of the window bounds the join, so it needs no time to live.
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
SELECT B.auction, B.price, B.bidder, B.time
from bid B
JOIN (
  SELECT MAX(price) AS maxprice, window_end as time
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) B1
ON B.price = B1.maxprice
WHERE B.time BETWEEN B1.time - INTERVAL '10' SECOND AND B1.time
--- output out from s
auction Int64, price Int64, bidder Int64, time Timestamp(µs)
{"auction":1,"price":300,"bidder":21,"time":"2026-11-01T10:00:02"}
{"auction":2,"price":300,"bidder":20,"time":"2026-11-01T10:00:04"}
{"auction":1,"price":300,"bidder":22,"time":"2026-11-01T10:00:07"}
{"auction":1,"price":900,"bidder":20,"time":"2026-11-01T10:00:10"}
{"price":70,"bidder":21,"time":"2026-11-01T10:00:21"}
--- explain
input bid (4 of 4 columns)
    auction Int64, bidder Int64, price Int64, time Timestamp(µs)
s/window_aggregate/0 ← bid
    TUMBLE(size 10s): window_end, max(price)
s/join/0 ← bid, s/window_aggregate/0
    inner on left.price = right.max(bid.price) AND left.time - right.window_end from -10000000 to 0 µs; kept for the interval
s/project/0 ← s/join/0
    auction, price, bidder, time
output out ← s/project/0
    auction Int64, price Int64, bidder Int64, time Timestamp(µs)
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
