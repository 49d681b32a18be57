-- SELECT DISTINCT in a window.
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
SELECT DISTINCT window_start, window_end, price > 3 AS dear FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), dear Boolean
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","dear":true}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","dear":false}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10"}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","dear":true}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","dear":false}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:30","dear":true}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), price Int64
s/project/0 ← bids
    window_end, price > 3 AS dear
s/window_aggregate/0 ← s/project/0
    TUMBLE(size 10s): window_start, window_end, dear
output out ← s/window_aggregate/0
    window_start Timestamp(ms), window_end Timestamp(ms), dear Boolean
exchange s.window_aggregate.0.0 ← s/project/0
    by dear
