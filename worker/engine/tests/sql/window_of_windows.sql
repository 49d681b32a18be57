-- An aggregate over windows of windows: the shape of Nexmark q5.
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
WITH counts AS (
  SELECT item, count(*) AS num, window_start AS starttime, window_end AS endtime
  FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
  GROUP BY item, window_start, window_end
)
SELECT max(num) AS maxn, starttime, endtime FROM counts GROUP BY starttime, endtime
--- output out from s
maxn Int64, starttime Timestamp(ms), endtime Timestamp(ms)
{"maxn":1,"starttime":"2026-11-01T09:59:55","endtime":"2026-11-01T10:00:05"}
{"maxn":2,"starttime":"2026-11-01T10:00:00","endtime":"2026-11-01T10:00:10"}
{"maxn":2,"starttime":"2026-11-01T10:00:05","endtime":"2026-11-01T10:00:15"}
{"maxn":2,"starttime":"2026-11-01T10:00:10","endtime":"2026-11-01T10:00:20"}
{"maxn":1,"starttime":"2026-11-01T10:00:15","endtime":"2026-11-01T10:00:25"}
{"maxn":1,"starttime":"2026-11-01T10:00:20","endtime":"2026-11-01T10:00:30"}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), item Utf8
s/window_aggregate/0 ← bids
    HOP(slide 5s, size 10s): window_start, window_end, count(*)
s/window_aggregate/1 ← s/window_aggregate/0
    window_start, window_end: starttime, endtime, max(num)
s/project/0 ← s/window_aggregate/1
    "max(counts.num)" AS maxn, starttime, endtime
output out ← s/project/0
    maxn Int64, starttime Timestamp(ms), endtime Timestamp(ms)
no exchange
    operator s/window_aggregate/1 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
