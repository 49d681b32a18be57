-- A window join (as Nexmark q8): state ends with the window.
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
--- input person
id Int64
name Utf8
state Utf8
time Timestamp(µs) EVENT TIME maxDelay 0
{"id":10,"name":"ada","state":"OR","time":"2026-11-01T10:00:00"}
{"id":11,"name":"bob","state":"CA","time":"2026-11-01T10:00:02"}
{"id":12,"name":"cyd","state":"OR","time":"2026-11-01T10:00:13"}
--- step s
SELECT p.id, p.name, p.starttime FROM (
  SELECT id, name, window_start AS starttime, window_end AS endtime FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(time), INTERVAL '10' SECOND))
  GROUP BY id, name, window_start, window_end
) p JOIN (
  SELECT seller, window_start AS starttime, window_end AS endtime FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(time), INTERVAL '10' SECOND))
  GROUP BY seller, window_start, window_end
) a ON p.id = a.seller AND p.starttime = a.starttime AND p.endtime = a.endtime
--- output out from s
id Int64, name Utf8, starttime Timestamp(µs)
{"id":10,"name":"ada","starttime":"2026-11-01T10:00:00"}
{"id":11,"name":"bob","starttime":"2026-11-01T10:00:00"}
--- explain
input auction (2 of 5 columns)
    seller Int64, time Timestamp(µs)
input person (3 of 4 columns)
    id Int64, name Utf8, time Timestamp(µs)
s/window_aggregate/0 ← person
    TUMBLE(size 10s): id, name, window_start, window_end
s/window_aggregate/1 ← auction
    TUMBLE(size 10s): seller, window_start, window_end
s/join/0 ← s/window_aggregate/0, s/window_aggregate/1
    inner on left.id = right.seller AND left.window_start = right.window_start AND left.window_end = right.window_end; kept until the window ends
output out ← s/join/0
    id Int64, name Utf8, starttime Timestamp(µs)
exchange s.window_aggregate.0.0 ← person
    by id
exchange s.window_aggregate.1.0 ← auction
    by seller
