-- Windows of processing time, as Nexmark q12. Rows without an event time take part.
--- input bid
bidder Int64
ts Timestamp(µs) EVENT TIME maxDelay 4
clock 3
{"bidder":1,"ts":"2026-11-01T10:00:00"}
{"bidder":2,"ts":"2026-11-01T11:00:00"}
{"bidder":1,"ts":null}
clock 9
{"bidder":1,"ts":"2020-11-01T10:00:00"}
clock 10
{"bidder":2,"ts":"2026-11-01T10:00:01"}
clock 25
{"bidder":3,"ts":"2026-11-01T10:00:01"}
--- step timed
SELECT *, PROCTIME() AS p_time FROM bid
--- step s
SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TABLE(TUMBLE(TABLE timed, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end
--- output out from s
bidder Int64, bid_count Int64, starttime Timestamp(ms, "UTC"), endtime Timestamp(ms, "UTC")
{"bidder":1,"bid_count":3,"starttime":"1970-01-01T00:00:00Z","endtime":"1970-01-01T00:00:10Z"}
{"bidder":2,"bid_count":1,"starttime":"1970-01-01T00:00:00Z","endtime":"1970-01-01T00:00:10Z"}
{"bidder":2,"bid_count":1,"starttime":"1970-01-01T00:00:10Z","endtime":"1970-01-01T00:00:20Z"}
{"bidder":3,"bid_count":1,"starttime":"1970-01-01T00:00:20Z","endtime":"1970-01-01T00:00:30Z"}
--- output rows from timed
bidder Int64, ts Timestamp(µs), p_time Timestamp(ms, "UTC")
{"bidder":1,"ts":"2026-11-01T10:00:00","p_time":"1970-01-01T00:00:03Z"}
{"bidder":2,"ts":"2026-11-01T11:00:00","p_time":"1970-01-01T00:00:03Z"}
{"bidder":1,"p_time":"1970-01-01T00:00:03Z"}
{"bidder":1,"ts":"2020-11-01T10:00:00","p_time":"1970-01-01T00:00:09Z"}
{"bidder":2,"ts":"2026-11-01T10:00:01","p_time":"1970-01-01T00:00:10Z"}
{"bidder":3,"ts":"2026-11-01T10:00:01","p_time":"1970-01-01T00:00:25Z"}
--- explain
input bid (2 of 2 columns)
    bidder Int64, ts Timestamp(µs)
timed/clock/0 ← bid
    PROCTIME()
timed/project/0 ← timed/clock/0
    bidder, ts, "PROCTIME()" AS p_time
s/window_aggregate/0 ← timed/project/0
    by processing time: TUMBLE(size 10s): bidder, window_start, window_end, count(*)
s/project/0 ← s/window_aggregate/0
    bidder, "count(Int64(1))" AS bid_count, window_start AS starttime, window_end AS endtime
output out ← s/project/0
    bidder Int64, bid_count Int64, starttime Timestamp(ms, "UTC"), endtime Timestamp(ms, "UTC")
output rows ← timed/project/0
    bidder Int64, ts Timestamp(µs), p_time Timestamp(ms, "UTC")
no exchange
    it goes by processing time, which is that of one task: window by event time to share the work
