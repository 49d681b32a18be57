-- SESSION for each of several columns, over a step.
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
SELECT dear, item, window_start, window_end, count(*) AS n FROM TABLE(SESSION(TABLE q PARTITION BY (item, dear), DESCRIPTOR(ts), INTERVAL '8' SECOND))
GROUP BY window_start, window_end, item, dear
--- step q
SELECT ts, item, price > 3 AS dear FROM bids WHERE price IS NOT NULL
--- output out from s
dear Boolean, item Utf8, window_start Timestamp(ms), window_end Timestamp(ms), n Int64
{"dear":true,"item":"a","window_start":"2026-11-01T10:00:01","window_end":"2026-11-01T10:00:09","n":1}
{"dear":false,"item":"c","window_start":"2026-11-01T10:00:08","window_end":"2026-11-01T10:00:16","n":1}
{"dear":false,"item":"b","window_start":"2026-11-01T10:00:03","window_end":"2026-11-01T10:00:18","n":2}
{"dear":true,"item":"a","window_start":"2026-11-01T10:00:11","window_end":"2026-11-01T10:00:27","n":2}
{"dear":true,"window_start":"2026-11-01T10:00:21","window_end":"2026-11-01T10:00:29","n":1}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
q/filter/0 ← bids
    price IS NOT NULL
q/project/0 ← q/filter/0
    ts, item, price > 3 AS dear
s/session_aggregate/0 ← q/project/0
    SESSION(gap 8s): window_start, window_end, item, dear, count(*)
s/project/0 ← s/session_aggregate/0
    dear, item, window_start, window_end, "count(Int64(1))" AS n
output out ← s/project/0
    dear Boolean, item Utf8, window_start Timestamp(ms), window_end Timestamp(ms), n Int64
exchange s.session_aggregate.0.0 ← q/project/0
    by item, dear
