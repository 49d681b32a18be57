-- Rows get their windows in one step and are aggregated in another.
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
SELECT ws, we, sum(price) AS total, max(we) AS again FROM windowed GROUP BY ws, we
--- step windowed
SELECT item, price, window_start AS ws, window_end AS we FROM HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)
--- output out from s
ws Timestamp(ms), we Timestamp(ms), total Int64, again Timestamp(ms)
{"ws":"2026-11-01T09:59:55","we":"2026-11-01T10:00:05","total":6,"again":"2026-11-01T10:00:05"}
{"ws":"2026-11-01T10:00:00","we":"2026-11-01T10:00:10","total":9,"again":"2026-11-01T10:00:10"}
{"ws":"2026-11-01T10:00:05","we":"2026-11-01T10:00:15","total":9,"again":"2026-11-01T10:00:15"}
{"ws":"2026-11-01T10:00:10","we":"2026-11-01T10:00:20","total":12,"again":"2026-11-01T10:00:20"}
{"ws":"2026-11-01T10:00:15","we":"2026-11-01T10:00:25","total":13,"again":"2026-11-01T10:00:25"}
{"ws":"2026-11-01T10:00:20","we":"2026-11-01T10:00:30","total":7,"again":"2026-11-01T10:00:30"}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), price Int64
windowed/window/0 ← bids
    HOP(slide 5s, size 10s) of ts
s/window_aggregate/0 ← windowed/window/0
    window_start, window_end: ws, we, sum(price), max(we)
s/project/0 ← s/window_aggregate/0
    ws, we, "sum(windowed.price)" AS total, "max(windowed.we)" AS again
output out ← s/project/0
    ws Timestamp(ms), we Timestamp(ms), total Int64, again Timestamp(ms)
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
