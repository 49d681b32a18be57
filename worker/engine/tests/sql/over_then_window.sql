-- The event time is still one after OVER; without PARTITION BY all rows are one; without a frame all rows before count.
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
--- step totals
SELECT time, sum(price) OVER (ORDER BY time) AS total FROM bid
--- step s
SELECT window_end, max(total) AS total FROM TUMBLE(TABLE totals, DESCRIPTOR(time), INTERVAL '10' SECOND) GROUP BY window_start, window_end
--- output out from s
window_end Timestamp(µs), total Int64
{"window_end":"2026-11-01T10:00:10","total":1050}
{"window_end":"2026-11-01T10:00:20","total":2020}
{"window_end":"2026-11-01T10:00:30","total":2090}
--- explain
input bid (2 of 4 columns)
    price Int64, time Timestamp(µs)
totals/over/0 ← bid
    sum(price) over all rows before by time
s/window_aggregate/0 ← totals/over/0
    TUMBLE(size 10s): window_end, max(total)
s/project/0 ← s/window_aggregate/0
    window_end, "max(totals.total)" AS total
output out ← s/project/0
    window_end Timestamp(µs), total Int64
no exchange
    operator totals/over/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
