-- Bids of each bidder in ten seconds of the wall clock.
-- inputs: bid
-- views: timed: SELECT *, PROCTIME() AS p_time FROM bid
-- not compared: the windows are of processing time, so every run gives other rows
SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TABLE(TUMBLE(TABLE timed, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end
