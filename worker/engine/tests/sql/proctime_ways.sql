-- Everything that goes by event time goes by processing time too: sessions, overlapping windows, top-N of windows, deduplication, OVER, joins of windows and intervals.
--- input a
k Utf8
v Int64
clock 1
{"k":"x","v":1}
{"k":"y","v":2}
clock 4
{"k":"x","v":3}
clock 12
{"k":"x","v":4}
{"k":"y","v":5}
clock 31
{"k":"y","v":6}
--- input b
k Utf8
w Int64
clock 33
{"k":"x","w":10}
{"k":"y","w":20}
clock 90
--- policy
stateTtl 3600
--- step one
SELECT *, PROCTIME() AS proc FROM a
--- step other
SELECT *, PROCTIME() AS proc FROM b
--- step sessions
SELECT k, window_start, window_end, sum(v) AS v FROM SESSION(TABLE one PARTITION BY k, DESCRIPTOR(proc), INTERVAL '5' SECOND) GROUP BY k, window_start, window_end
--- step hop
SELECT window_end, count(*) AS n FROM HOP(TABLE one, DESCRIPTOR(proc), INTERVAL '10' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end
--- step top
SELECT k, n, window_end FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n DESC, k) AS rn FROM (
    SELECT k, window_end, count(*) AS n FROM TUMBLE(TABLE one, DESCRIPTOR(proc), INTERVAL '10' SECOND) GROUP BY k, window_start, window_end)
) WHERE rn = 1
--- step first
SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY proc) AS rn FROM one) WHERE rn = 1
--- step last
SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY proc DESC) AS rn FROM one) WHERE rn = 1
--- step frame
SELECT k, v, sum(v) OVER (PARTITION BY k ORDER BY proc RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) AS s FROM one
--- step near
SELECT x.k, x.v, y.w FROM one x JOIN other y ON x.k = y.k AND y.proc BETWEEN x.proc AND x.proc + INTERVAL '10' SECOND
--- output sessions from sessions
k Utf8, window_start Timestamp(ms, "UTC"), window_end Timestamp(ms, "UTC"), v Int64
{"k":"y","window_start":"1970-01-01T00:00:01Z","window_end":"1970-01-01T00:00:06Z","v":2}
{"k":"x","window_start":"1970-01-01T00:00:01Z","window_end":"1970-01-01T00:00:09Z","v":4}
{"k":"x","window_start":"1970-01-01T00:00:12Z","window_end":"1970-01-01T00:00:17Z","v":4}
{"k":"y","window_start":"1970-01-01T00:00:12Z","window_end":"1970-01-01T00:00:17Z","v":5}
{"k":"y","window_start":"1970-01-01T00:00:31Z","window_end":"1970-01-01T00:00:36Z","v":6}
--- output hop from hop
window_end Timestamp(ms, "UTC"), n Int64
{"window_end":"1970-01-01T00:00:10Z","n":3}
{"window_end":"1970-01-01T00:00:20Z","n":5}
{"window_end":"1970-01-01T00:00:30Z","n":2}
{"window_end":"1970-01-01T00:00:40Z","n":1}
{"window_end":"1970-01-01T00:00:50Z","n":1}
--- output top from top
k Utf8, n Int64, window_end Timestamp(ms, "UTC")
{"k":"x","n":2,"window_end":"1970-01-01T00:00:10Z"}
{"k":"x","n":1,"window_end":"1970-01-01T00:00:20Z"}
{"k":"y","n":1,"window_end":"1970-01-01T00:00:40Z"}
--- output first from first
k Utf8, v Int64
{"k":"x","v":1}
{"k":"y","v":2}
--- output last from last
k Utf8, v Int64 (revised, key k)
+I {"k":"x","v":1}
+I {"k":"y","v":2}
-U {"k":"x","v":1}
+U {"k":"x","v":3}
-U {"k":"x","v":3}
+U {"k":"x","v":4}
-U {"k":"y","v":2}
+U {"k":"y","v":5}
-U {"k":"y","v":5}
+U {"k":"y","v":6}
--- output frame from frame
k Utf8, v Int64, s Int64
{"k":"x","v":1,"s":1}
{"k":"y","v":2,"s":2}
{"k":"x","v":3,"s":4}
{"k":"x","v":4,"s":7}
{"k":"y","v":5,"s":5}
{"k":"y","v":6,"s":6}
--- output near from near
k Utf8, v Int64, w Int64
{"k":"y","v":6,"w":20}
--- explain
input a (2 of 2 columns)
    k Utf8, v Int64
input b (2 of 2 columns)
    k Utf8, w Int64
one/clock/0 ← a
    PROCTIME()
one/project/0 ← one/clock/0
    k, v, "PROCTIME()" AS proc
other/clock/0 ← b
    PROCTIME()
other/project/0 ← other/clock/0
    k, w, "PROCTIME()" AS proc
sessions/session_aggregate/0 ← one/project/0
    by processing time: SESSION(gap 5s): k, window_start, window_end, sum(v)
hop/window_aggregate/0 ← one/project/0
    by processing time: HOP(slide 10s, size 20s): window_end, count(*)
top/window_aggregate/0 ← one/project/0
    by processing time: TUMBLE(size 10s): k, window_end, count(*)
top/rank/0 ← top/window_aggregate/0
    by processing time: row 1 of each window_end by count(Int64(1)) DESC, k; when the window ends
first/rank/0 ← one/project/0
    by processing time: row 1 of each k by proc; once it is final; kept for 3600 s
last/rank/0 ← one/project/0
    row 1 of each k by proc DESC, the last of equal rows; at once, revised later; kept for 3600 s
frame/over/0 ← one/project/0
    by processing time: sum(v) over 10000000 µs before of each k by proc
near/join/0 ← one/project/0, other/project/0
    by processing time: inner on left.k = right.k AND left.proc - right.proc from -10000000 to 0 µs; kept for the interval
sessions/project/0 ← sessions/session_aggregate/0
    k, window_start, window_end, "sum(one.v)" AS v
hop/project/0 ← hop/window_aggregate/0
    window_end, "count(Int64(1))" AS n
top/project/0 ← top/rank/0
    k, n, window_end
frame/project/0 ← frame/over/0
    k, v, "sum(one.v) PARTITION BY [one.k] ORDER BY [one.proc ASC NULLS FIRST] RANGE BETWEEN 10 SECOND PRECEDING AND CURRENT ROW" AS s
output sessions ← sessions/project/0
    k Utf8, window_start Timestamp(ms, "UTC"), window_end Timestamp(ms, "UTC"), v Int64
output hop ← hop/project/0
    window_end Timestamp(ms, "UTC"), n Int64
output top ← top/project/0
    k Utf8, n Int64, window_end Timestamp(ms, "UTC")
output first ← first/rank/0
    k Utf8, v Int64
output last ← last/rank/0
    k Utf8, v Int64
output frame ← frame/project/0
    k Utf8, v Int64, s Int64
output near ← near/join/0
    k Utf8, v Int64, w Int64
no exchange
    operator hop/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
