-- CUMULATE alone, filtered by its window.
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
SELECT item, window_start, window_end FROM CUMULATE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND) AS c WHERE c.window_end > TIMESTAMP '2026-11-01T10:00:10'
--- output out from s
item Utf8, window_start Timestamp(ms), window_end Timestamp(ms)
{"item":"a","window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:15"}
{"item":"a","window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20"}
{"item":"b","window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:15"}
{"item":"b","window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20"}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:25"}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:30"}
{"item":"a","window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20"}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), item Utf8
s/window/0 ← bids
    CUMULATE(step 5s, size 10s) of ts
s/filter/0 ← s/window/0
    window_end > TimestampMillisecond(1793527210000, None)
output out ← s/filter/0
    item Utf8, window_start Timestamp(ms), window_end Timestamp(ms)
