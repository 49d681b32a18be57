-- CUMULATE: windows that grow.
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
SELECT window_start, window_end, sum(price) AS total
FROM TABLE(CUMULATE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
GROUP BY window_start, window_end
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), total Int64
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:05","total":6}
{"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","total":9}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:15","total":6}
{"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","total":12}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:25","total":7}
{"window_start":"2026-11-01T10:00:20","window_end":"2026-11-01T10:00:30","total":7}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), price Int64
s/window_aggregate/0 ← bids
    CUMULATE(step 5s, size 10s): window_start, window_end, sum(price)
s/project/0 ← s/window_aggregate/0
    window_start, window_end, "sum(bids.price)" AS total
output out ← s/project/0
    window_start Timestamp(ms), window_end Timestamp(ms), total Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
