-- Top-N of each window: final when it ends.
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
SELECT window_end, auction, bids, n FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY bids DESC, auction DESC) AS n FROM (
    SELECT window_start, window_end, auction, count(*) AS bids FROM TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '10' SECOND)
    GROUP BY window_start, window_end, auction)
) WHERE n <= 2
--- output out from s
window_end Timestamp(µs), auction Int64, bids Int64, n UInt64
{"window_end":"2026-11-01T10:00:10","auction":1,"bids":3,"n":1}
{"window_end":"2026-11-01T10:00:10","auction":9,"bids":1,"n":2}
{"window_end":"2026-11-01T10:00:20","auction":3,"bids":1,"n":1}
{"window_end":"2026-11-01T10:00:20","auction":1,"bids":1,"n":2}
{"window_end":"2026-11-01T10:00:30","bids":1,"n":1}
--- explain
input bid (2 of 4 columns)
    auction Int64, time Timestamp(µs)
s/window_aggregate/0 ← bid
    TUMBLE(size 10s): window_start, window_end, auction, count(*)
s/rank/0 ← s/window_aggregate/0
    row 1 to 2 of each window_start, window_end by count(Int64(1)) DESC, auction DESC; when the window ends
s/project/0 ← s/rank/0
    window_end, auction, bids, "row_number() PARTITION BY [window_start, window_end] ORDER BY [bids DESC NULLS LAST, bid.auction DESC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW" AS n
output out ← s/project/0
    window_end Timestamp(µs), auction Int64, bids Int64, n UInt64
no exchange
    operator s/rank/0 brings rows together by window_start, window_end, which says nothing of where they are after operator s/window_aggregate/0 by auction: they would have to be exchanged a second time, which is not supported; keep a column of the earlier key, as it is, in the key of s/rank/0
