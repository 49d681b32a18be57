-- State that is not touched for its time is forgotten: the key begins anew.
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
stateTtl 2
--- step s
SELECT item, count(*) AS n FROM bids GROUP BY item
--- output out from s
item Utf8, n Int64 (revised, key item)
+I {"item":"a","n":1}
+I {"item":"b","n":1}
+I {"item":"late","n":1}
+I {"item":"c","n":1}
+I {"item":"late","n":1}
+I {"item":"no time","n":1}
+I {"item":"late for some","n":1}
+I {"item":"a","n":1}
--- explain
input bids (2 of 2 columns)
    ts Timestamp(µs, "UTC"), item Utf8
s/aggregate/0 ← bids
    item, count(*) (kept for 2s)
s/project/0 ← s/aggregate/0
    item, "count(Int64(1))" AS n
output out ← s/project/0
    item Utf8, n Int64
exchange s.aggregate.0.0 ← bids
    by item
