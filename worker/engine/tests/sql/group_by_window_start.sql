-- A window without its end is no window of its own for CUMULATE.
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
--- policy
stateTtl 3600
--- step s
SELECT window_start, count(*) AS n FROM CUMULATE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND) GROUP BY window_start
--- output out from s
window_start Timestamp(ms), n Int64 (revised, key window_start)
+I {"window_start":"2026-11-01T10:00:00","n":6}
+I {"window_start":"2026-11-01T10:00:10","n":5}
+I {"window_start":"2026-11-01T10:00:20","n":2}
--- explain
input bids (1 of 3 columns)
    ts Timestamp(ms)
s/window/0 ← bids
    CUMULATE(step 5s, size 10s) of ts
s/aggregate/0 ← s/window/0
    window_start, count(*) (kept for 3600s)
s/project/0 ← s/aggregate/0
    window_start, "count(Int64(1))" AS n
output out ← s/project/0
    window_start Timestamp(ms), n Int64
exchange s.aggregate.0.0 ← s/window/0
    by window_start
