-- Rows that are late go to the dead letters, if the policy says so.
--- input bids
ts Timestamp(µs, "UTC") EVENT TIME maxDelay 0
item Utf8
{"ts":"2026-11-01T10:00:01Z","item":"a"}
{"ts":"2026-11-01T10:00:09Z","item":"b"}
watermark
{"ts":"2026-11-01T10:00:04Z","item":"late"}
{"ts":"2026-11-01T10:00:11Z","item":"c"}
watermark
{"ts":"2026-11-01T10:00:02Z","item":"late"}
{"ts":null,"item":"no time"}
{"ts":"2026-11-01T10:00:07Z","item":"late for some"}
{"ts":"2026-11-01T10:00:12Z","item":"a"}
watermark
--- policy
late deadLetter
--- step s
SELECT window_end, count(*) AS n, array_agg(item) AS items FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND) GROUP BY window_start, window_end
--- output out from s
window_end Timestamp(µs, "UTC"), n Int64, items List(Utf8)
{"window_end":"2026-11-01T10:00:05Z","n":1,"items":["a"]}
{"window_end":"2026-11-01T10:00:10Z","n":1,"items":["b"]}
{"window_end":"2026-11-01T10:00:15Z","n":2,"items":["c","a"]}
--- explain
input bids (2 of 2 columns)
    ts Timestamp(µs, "UTC"), item Utf8
s/window_aggregate/0 ← bids
    TUMBLE(size 5s): window_end, count(*), array_agg(item)
s/project/0 ← s/window_aggregate/0
    window_end, "count(Int64(1))" AS n, "array_agg(bids.item)" AS items
output out ← s/project/0
    window_end Timestamp(µs, "UTC"), n Int64, items List(Utf8)
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
--- rejected
out <- bids 2: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:04Z","item":"late"}
out <- bids 5: operator s/window_aggregate/0: `ts` is NULL, so there is no telling which window the row is in {"item":"no time"}
out <- bids 4: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:02Z","item":"late"}
out <- bids 6: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:07Z","item":"late for some"}
