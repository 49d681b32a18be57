-- Bids with what a table says of them when they come, as Nexmark q13: the table is read once before; a row finds all rows of its key; a table that keeps the last row of each key has one.
--- input side
key Int64
value Utf8
ts Timestamp(µs)
{"key":1,"value":"one","ts":"2026-11-01T10:00:00"}
{"key":2,"value":"two","ts":"2026-11-01T10:00:00"}
{"key":1,"value":"uno","ts":"2026-11-01T09:00:00"}
idle
--- input bid
auction Int64
price Int64
at Timestamp(µs) EVENT TIME maxDelay 0
clock 10
{"auction":11,"price":5,"at":"2026-11-01T10:00:01"}
{"auction":12,"price":6,"at":"2026-11-01T10:00:02"}
{"auction":13,"price":7,"at":"2026-11-01T10:00:03"}
clock 20
{"auction":21,"price":4,"at":"2026-11-01T10:00:14"}
--- policy
stateTtl 3600
--- step timed
SELECT *, PROCTIME() AS p_time FROM bid
--- step latest
SELECT key, value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY key ORDER BY ts DESC) AS n FROM side) WHERE n = 1
--- step all_rows
SELECT B.auction, B.price, S.value FROM timed B JOIN side FOR SYSTEM_TIME AS OF B.p_time AS S ON MOD(B.auction, 10) = S.key
--- step one_row
SELECT B.auction, S.value, B.at FROM timed B LEFT JOIN latest FOR SYSTEM_TIME AS OF B.p_time AS S ON MOD(B.auction, 10) = S.key AND S.value <> 'two'
--- step counted
SELECT window_end, count(*) AS n FROM TUMBLE(TABLE one_row, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end
--- output all_rows from all_rows
auction Int64, price Int64, value Utf8
{"auction":11,"price":5,"value":"one"}
{"auction":11,"price":5,"value":"uno"}
{"auction":12,"price":6,"value":"two"}
{"auction":21,"price":4,"value":"one"}
{"auction":21,"price":4,"value":"uno"}
--- output one_row from one_row
auction Int64, value Utf8, at Timestamp(µs)
{"auction":11,"value":"one","at":"2026-11-01T10:00:01"}
{"auction":12,"at":"2026-11-01T10:00:02"}
{"auction":13,"at":"2026-11-01T10:00:03"}
{"auction":21,"value":"one","at":"2026-11-01T10:00:14"}
--- output counted from counted
window_end Timestamp(µs), n Int64
{"window_end":"2026-11-01T10:00:10","n":3}
{"window_end":"2026-11-01T10:00:20","n":1}
--- explain
input side (3 of 3 columns)
    key Int64, value Utf8, ts Timestamp(µs)
input bid (3 of 3 columns)
    auction Int64, price Int64, at Timestamp(µs)
latest/rank/0 ← side
    row 1 of each key by ts DESC; at once, revised later; kept for 3600 s
all_rows/project/0 ← bid
    auction % 10 AS b.auction % Int64(10), auction, price
all_rows/temporal_join/0 ← all_rows/project/0, side
    inner on left.b.auction % Int64(10) = right.key; right as it is when left comes
one_row/project/0 ← bid
    auction % 10 AS b.auction % Int64(10), auction, at
one_row/temporal_join/0 ← one_row/project/0, latest/rank/0
    left on left.b.auction % Int64(10) = right.key AND value != 'two'; right as it is when left comes
counted/window_aggregate/0 ← one_row/temporal_join/0
    TUMBLE(size 10s): window_end, count(*)
one_row/project/1 ← one_row/temporal_join/0
    auction, value, at
counted/project/0 ← counted/window_aggregate/0
    window_end, "count(Int64(1))" AS n
output all_rows ← all_rows/temporal_join/0
    auction Int64, price Int64, value Utf8
output one_row ← one_row/project/1
    auction Int64, value Utf8, at Timestamp(µs)
output counted ← counted/project/0
    window_end Timestamp(µs), n Int64
no exchange
    operator counted/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
