-- Late rows of window joins, interval joins, deduplication, OVER and temporal joins are rejected too if the policy says so.
--- input a
k Utf8
v Int64
ts Timestamp(µs) EVENT TIME maxDelay 0
{"k":"x","v":1,"ts":"2026-11-01T10:00:01"}
{"k":"x","v":2,"ts":"2026-11-01T10:00:21"}
watermark
{"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
{"k":"x","v":4,"ts":"2026-11-01T10:00:22"}
watermark
--- policy
stateTtl 3600
late deadLetter
--- step first
SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, v ORDER BY ts) AS n FROM a) WHERE n = 1
--- step frame
SELECT v, count(*) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW) AS n FROM a
--- step windows
SELECT x.v, y.v AS w FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '10' SECOND) x JOIN TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '10' SECOND) y
ON x.k = y.k AND x.window_end = y.window_end
--- step near
SELECT x.v, y.v AS w FROM a x JOIN a y ON x.k = y.k AND x.ts = y.ts
--- step versions
SELECT x.v, y.v AS w FROM a x JOIN a FOR SYSTEM_TIME AS OF x.ts AS y ON x.k = y.k
--- output first from first
k Utf8, v Int64
{"k":"x","v":1}
{"k":"x","v":2}
{"k":"x","v":4}
--- output frame from frame
v Int64, n Int64
{"v":1,"n":1}
{"v":2,"n":2}
{"v":4,"n":3}
--- output windows from windows
v Int64, w Int64
{"v":1,"w":1}
{"v":2,"w":2}
{"v":4,"w":2}
{"v":2,"w":4}
{"v":4,"w":4}
--- output near from near
v Int64, w Int64
{"v":1,"w":1}
{"v":2,"w":2}
{"v":4,"w":4}
--- output versions from versions
v Int64, w Int64
{"v":1,"w":1}
{"v":2,"w":2}
{"v":4,"w":4}
--- rejected
first <- a 2: operator first/rank/0: the row is late, or has no time: the first row of this time has been given out {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
frame <- a 2: operator frame/over/0: the row is late, or has no time: rows of its time by `ts` have left {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
near <- a 2: operator near/join/0: the row is late: the rows that it could meet are gone {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
near <- a 2: operator near/join/0: the row is late: the rows that it could meet are gone {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
versions <- a 2: operator versions/temporal_join/0: the row is late: by `ts`, the watermark has passed it {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
windows <- a 2: operator windows/join/0: the row is late: its window has ended {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
windows <- a 2: operator windows/join/0: the row is late: its window has ended {"k":"x","v":3,"ts":"2026-11-01T10:00:02"}
