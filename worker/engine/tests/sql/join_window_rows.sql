-- Rows with their windows, joined and counted again by window.
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
SELECT w.window_start, w.window_end, count(*) AS bids FROM (
  SELECT b.window_start, b.window_end, a.id FROM TUMBLE(TABLE auction, DESCRIPTOR(time), INTERVAL '10' SECOND) a
  JOIN TUMBLE(TABLE bid, DESCRIPTOR(time), INTERVAL '10' SECOND) b
  ON a.id = b.auction AND a.window_start = b.window_start AND a.window_end = b.window_end
) w GROUP BY w.window_start, w.window_end
--- output out from s
window_start Timestamp(µs), window_end Timestamp(µs), bids Int64
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","bids":4}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","bids":1}
--- explain
input auction (2 of 5 columns)
    id Int64, time Timestamp(µs)
input bid (2 of 4 columns)
    auction Int64, time Timestamp(µs)
s/window/0 ← auction
    TUMBLE(size 10s) of time
s/window/1 ← bid
    TUMBLE(size 10s) of time
s/join/0 ← s/window/0, s/window/1
    inner on left.id = right.auction AND left.window_start = right.window_start AND left.window_end = right.window_end; kept until the window ends
s/window_aggregate/0 ← s/join/0
    window_start, window_end: window_start, window_end, count(*)
s/project/0 ← s/window_aggregate/0
    window_start, window_end, "count(Int64(1))" AS bids
output out ← s/project/0
    window_start Timestamp(µs), window_end Timestamp(µs), bids Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
