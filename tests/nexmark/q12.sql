-- Bids of each bidder in ten seconds of the wall clock.
-- inputs: bid
-- views: timed: SELECT *, PROCTIME() AS p_time FROM bid
-- totals: bid_count by bidder: SELECT bidder, count(*) AS bid_count FROM bid GROUP BY bidder
SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TABLE(TUMBLE(TABLE timed, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end
