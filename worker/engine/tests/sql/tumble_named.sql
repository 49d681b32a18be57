-- Named arguments, an offset, window_time.
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
SELECT window_start, window_end, window_time, count(*) AS n
FROM TABLE(TUMBLE(DATA => TABLE bids, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND, OFFSET => INTERVAL '3' SECOND))
GROUP BY window_start, window_end, window_time
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), window_time Timestamp(ms), n Int64
{"window_start":"2026-11-01T09:59:53","window_end":"2026-11-01T10:00:03","window_time":"2026-11-01T10:00:02.999","n":1}
{"window_start":"2026-11-01T10:00:03","window_end":"2026-11-01T10:00:13","window_time":"2026-11-01T10:00:12.999","n":5}
{"window_start":"2026-11-01T10:00:13","window_end":"2026-11-01T10:00:23","window_time":"2026-11-01T10:00:22.999","n":2}
--- explain
input bids (1 of 3 columns)
    ts Timestamp(ms)
s/window_aggregate/0 ← bids
    TUMBLE(size 10s, offset 3s): window_start, window_end, window_time, count(*)
s/project/0 ← s/window_aggregate/0
    window_start, window_end, window_time, "count(Int64(1))" AS n
output out ← s/project/0
    window_start Timestamp(ms), window_end Timestamp(ms), window_time Timestamp(ms), n Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
