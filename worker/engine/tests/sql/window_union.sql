-- A window over two inputs waits for both; a column of whole seconds.
--- input one
ts Timestamp(s) EVENT TIME maxDelay 4
v Int32
{"ts":"2026-11-01T10:00:01","v":1}
{"ts":"2026-11-01T10:00:12","v":2}
--- input other
ts Timestamp(s) EVENT TIME maxDelay 0
v Int32
{"ts":"2026-11-01T10:00:03","v":10}
{"ts":"2026-11-01T10:00:04","v":20}
--- step s
SELECT window_start, window_time, sum(v) AS total FROM TUMBLE(TABLE both_inputs, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end, window_time
--- step both_inputs
SELECT ts, v FROM one UNION ALL SELECT ts, v FROM other
--- output out from s
window_start Timestamp(ms), window_time Timestamp(ms), total Int64
{"window_start":"2026-11-01T10:00:00","window_time":"2026-11-01T10:00:09.999","total":31}
{"window_start":"2026-11-01T10:00:10","window_time":"2026-11-01T10:00:19.999","total":2}
--- explain
input one (2 of 2 columns)
    ts Timestamp(s), v Int32
input other (2 of 2 columns)
    ts Timestamp(s), v Int32
both_inputs/union/0 ← one, other
    ts, v
s/project/0 ← both_inputs/union/0
    CAST(v AS Int64) AS both_inputs.v, window_end AS ts
s/window_aggregate/0 ← s/project/0
    TUMBLE(size 10s): window_start, window_time, sum(CAST(v AS Int64))
s/project/1 ← s/window_aggregate/0
    window_start, window_time, "sum(both_inputs.v)" AS total
output out ← s/project/1
    window_start Timestamp(ms), window_time Timestamp(ms), total Int64
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
