-- HOP alone makes several rows of one.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
{"ts":"2026-11-01T10:00:03","item":"b","price":2}
{"ts":"2026-11-01T10:00:11","item":"a","price":5}
{"ts":"2026-11-01T10:00:08","item":"c","price":3}
{"ts":"2026-11-01T10:00:09","item":"a","price":null}
{"ts":"2026-11-01T10:00:10","item":"b","price":1}
{"ts":"2026-11-01T10:00:21","item":null,"price":7}
{"ts":"2026-11-01T10:00:19","item":"a","price":6}
--- step s
SELECT item, window_start, window_time FROM HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND) WHERE price > 2
--- output out from s
item Utf8, window_start Timestamp(ms), window_time Timestamp(ms)
{"item":"a","window_start":"2026-11-01T09:59:55","window_time":"2026-11-01T10:00:04.999"}
{"item":"a","window_start":"2026-11-01T10:00:00","window_time":"2026-11-01T10:00:09.999"}
{"item":"a","window_start":"2026-11-01T10:00:05","window_time":"2026-11-01T10:00:14.999"}
{"item":"a","window_start":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:19.999"}
{"item":"c","window_start":"2026-11-01T10:00:00","window_time":"2026-11-01T10:00:09.999"}
{"item":"c","window_start":"2026-11-01T10:00:05","window_time":"2026-11-01T10:00:14.999"}
{"window_start":"2026-11-01T10:00:15","window_time":"2026-11-01T10:00:24.999"}
{"window_start":"2026-11-01T10:00:20","window_time":"2026-11-01T10:00:29.999"}
{"item":"a","window_start":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:19.999"}
{"item":"a","window_start":"2026-11-01T10:00:15","window_time":"2026-11-01T10:00:24.999"}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/filter/0 ← bids
    price > 2
s/window/0 ← s/filter/0
    HOP(slide 5s, size 10s) of ts
output out ← s/window/0
    item Utf8, window_start Timestamp(ms), window_time Timestamp(ms)
