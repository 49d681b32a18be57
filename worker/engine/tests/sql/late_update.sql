-- Windows that have given their result take late rows for five seconds and are revised.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 0
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
{"ts":"2026-11-01T10:00:02","item":"b","price":1}
{"ts":"2026-11-01T10:00:12","item":"a","price":7}
watermark
{"ts":"2026-11-01T10:00:03","item":"a","price":9}
{"ts":"2026-11-01T10:00:04","item":"c","price":2}
{"ts":"2026-11-01T10:00:05","item":"b","price":0}
{"ts":"2026-11-01T10:00:14","item":"b","price":0}
watermark
{"ts":"2026-11-01T10:00:05","item":"a","price":1}
{"ts":"2026-11-01T10:00:15","item":"a","price":1}
watermark
{"ts":"2026-11-01T10:00:06","item":"a","price":100}
{"ts":"2026-11-01T10:00:31","item":"d","price":5}
watermark
{"ts":"2026-11-01T10:00:16","item":"a","price":100}
--- policy
allowedLateness 5
stateTtl 3600
late deadLetter
--- step s
SELECT window_start, window_end, item, count(*) AS n, max(price) AS most FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY window_start, window_end, item
--- step sliding
SELECT window_end, avg(price) AS mean FROM HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)
GROUP BY window_start, window_end
--- step best
SELECT window_end, max(most) AS most FROM s GROUP BY window_end
--- output out from s
window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, n Int64, most Int64 (revised, key window_start, item)
+I {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","n":1,"most":4}
+I {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"b","n":1,"most":1}
-U {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","n":1,"most":4}
+U {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","n":2,"most":9}
-U {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"b","n":1,"most":1}
+U {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"b","n":2,"most":1}
+I {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"c","n":1,"most":2}
-U {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","n":2,"most":9}
+U {"window_start":"2026-11-01T10:00:00","window_end":"2026-11-01T10:00:10","item":"a","n":3,"most":9}
+I {"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","item":"a","n":2,"most":7}
+I {"window_start":"2026-11-01T10:00:10","window_end":"2026-11-01T10:00:20","item":"b","n":1,"most":0}
+I {"window_start":"2026-11-01T10:00:30","window_end":"2026-11-01T10:00:40","item":"d","n":1,"most":5}
--- output sliding from sliding
window_end Timestamp(ms), mean Float64 (revised, key window_end)
+I {"window_end":"2026-11-01T10:00:05","mean":2.5}
+I {"window_end":"2026-11-01T10:00:10","mean":2.5}
-U {"window_end":"2026-11-01T10:00:10","mean":2.5}
+U {"window_end":"2026-11-01T10:00:10","mean":3.2}
-U {"window_end":"2026-11-01T10:00:10","mean":3.2}
+U {"window_end":"2026-11-01T10:00:10","mean":2.8333333333333335}
+I {"window_end":"2026-11-01T10:00:15","mean":2.0}
-U {"window_end":"2026-11-01T10:00:15","mean":2.0}
+U {"window_end":"2026-11-01T10:00:15","mean":21.6}
+I {"window_end":"2026-11-01T10:00:20","mean":2.6666666666666665}
+I {"window_end":"2026-11-01T10:00:25","mean":1.0}
+I {"window_end":"2026-11-01T10:00:35","mean":5.0}
+I {"window_end":"2026-11-01T10:00:40","mean":5.0}
--- output best from best
window_end Timestamp(ms), most Int64 (revised, key window_end)
+I {"window_end":"2026-11-01T10:00:10","most":4}
-U {"window_end":"2026-11-01T10:00:10","most":4}
+U {"window_end":"2026-11-01T10:00:10","most":9}
+I {"window_end":"2026-11-01T10:00:20","most":7}
+I {"window_end":"2026-11-01T10:00:40","most":5}
--- rejected
out <- bids 9: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:06","item":"a","price":100}
best <- bids 9: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:06","item":"a","price":100}
out <- bids 11: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:16","item":"a","price":100}
best <- bids 11: operator s/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:16","item":"a","price":100}
sliding <- bids 11: operator sliding/window_aggregate/0: the row is late: by `ts`, its window has ended and given its result {"ts":"2026-11-01T10:00:16","item":"a","price":100}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/window_aggregate/0 ← bids
    TUMBLE(size 10s): window_start, window_end, item, count(*), max(price); revised for 5 s
sliding/project/0 ← bids
    CAST(price AS Float64) AS bids.price, window_end AS ts
sliding/window_aggregate/0 ← sliding/project/0
    HOP(slide 5s, size 10s): window_end, avg(CAST(price AS Float64)); revised for 5 s
best/aggregate/0 ← s/window_aggregate/0
    window_end, max(most) (kept for 3600s, takes rows back)
s/project/0 ← s/window_aggregate/0
    window_start, window_end, item, "count(Int64(1))" AS n, "max(bids.price)" AS most
sliding/project/1 ← sliding/window_aggregate/0
    window_end, "avg(bids.price)" AS mean
best/project/0 ← best/aggregate/0
    window_end, "max(s.most)" AS most
output out ← s/project/0
    window_start Timestamp(ms), window_end Timestamp(ms), item Utf8, n Int64, most Int64
output sliding ← sliding/project/1
    window_end Timestamp(ms), mean Float64
output best ← best/project/0
    window_end Timestamp(ms), most Int64
no exchange
    operator sliding/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
