-- TUMBLE alone gives rows their windows.
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
SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECONDS))
--- output out from s
ts Timestamp(ms), item Utf8, price Int64, window_start Timestamp(ms), window_end Timestamp(ms), window_time Timestamp(ms)
{"ts":"2026-11-01T10:00:01","item":"a","price":4,"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:09.999"}
{"ts":"2026-11-01T10:00:03","item":"b","price":2,"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:09.999"}
{"ts":"2026-11-01T10:00:11","item":"a","price":5,"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","window_time":"2026-11-01T10:00:19.999"}
{"ts":"2026-11-01T10:00:08","item":"c","price":3,"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:09.999"}
{"ts":"2026-11-01T10:00:09","item":"a","window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:09.999"}
{"ts":"2026-11-01T10:00:10","item":"b","price":1,"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","window_time":"2026-11-01T10:00:19.999"}
{"ts":"2026-11-01T10:00:21","price":7,"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:30","window_time":"2026-11-01T10:00:29.999"}
{"ts":"2026-11-01T10:00:19","item":"a","price":6,"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","window_time":"2026-11-01T10:00:19.999"}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/window/0 ← bids
    TUMBLE(size 10s) of ts
output out ← s/window/0
    ts Timestamp(ms), item Utf8, price Int64, window_start Timestamp(ms), window_end Timestamp(ms), window_time Timestamp(ms)
