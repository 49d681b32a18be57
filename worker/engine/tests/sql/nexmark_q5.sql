-- Nexmark q5: the auctions with the most bids of each window.
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
SELECT AuctionBids.auction, AuctionBids.num FROM (
  SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) AS AuctionBids
JOIN (
  SELECT max(CountBids.num) AS maxn, CountBids.starttime, CountBids.endtime
  FROM (
    SELECT count(*) AS num, window_start AS starttime, window_end AS endtime
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  ) AS CountBids
  GROUP BY CountBids.starttime, CountBids.endtime
) AS MaxBids
ON AuctionBids.starttime = MaxBids.starttime AND AuctionBids.endtime = MaxBids.endtime AND AuctionBids.num >= MaxBids.maxn
--- output out from s
auction Int64, num Int64
{"auction":1,"num":1}
{"auction":1,"num":2}
{"auction":1,"num":2}
{"auction":1,"num":3}
{"auction":1,"num":3}
{"auction":1,"num":3}
{"auction":1,"num":2}
{"auction":1,"num":2}
{"auction":9,"num":1}
{"auction":1,"num":1}
{"auction":3,"num":1}
{"auction":1,"num":1}
{"auction":3,"num":1}
{"auction":3,"num":1}
{"num":1}
{"auction":3,"num":1}
{"num":1}
{"num":1}
{"num":1}
{"num":1}
--- explain
input bid (2 of 4 columns)
    auction Int64, time Timestamp(µs)
s/window_aggregate/0 ← bid
    HOP(slide 2s, size 10s): auction, window_start, window_end, count(*)
s/window_aggregate/1 ← bid
    HOP(slide 2s, size 10s): window_start, window_end, count(*)
s/window_aggregate/2 ← s/window_aggregate/1
    window_start, window_end: starttime, endtime, max(num)
s/join/0 ← s/window_aggregate/0, s/window_aggregate/2
    inner on left.window_start = right.starttime AND left.window_end = right.endtime AND num >= maxn; kept until the window ends
output out ← s/join/0
    auction Int64, num Int64
no exchange
    operator s/window_aggregate/2 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
