-- FILTER, HAVING, WHERE and expressions around aggregates.
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
SELECT upper(item) AS name, window_end, count(*) FILTER (WHERE price > 3) AS dear, sum(price) * 2 + 1 AS twice
FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)
WHERE item IS NOT NULL
GROUP BY window_start, window_end, upper(item)
HAVING count(*) > 1 OR sum(price) > 5
--- output out from s
name Utf8, window_end Timestamp(ms), dear Int64, twice Int64
{"name":"A","window_end":"2026-11-01T10:00:10","dear":1,"twice":9}
{"name":"A","window_end":"2026-11-01T10:00:20","dear":2,"twice":23}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/filter/0 ← bids
    item IS NOT NULL
s/project/0 ← s/filter/0
    upper(item) AS upper(bids.item), price > 3 AS bids.price > Int64(3), price, window_end AS ts
s/window_aggregate/0 ← s/project/0
    TUMBLE(size 10s): window_end, upper(bids.item), count(*) FILTER (WHERE price > 3), sum(price), count(*)
s/filter/1 ← s/window_aggregate/0
    "count(Int64(1))" > 1 OR "sum(bids.price)" > 5
s/project/1 ← s/filter/1
    "upper(bids.item)" AS name, window_end, "count(Int64(1)) FILTER (WHERE bids.price > Int64(3))" AS dear, "sum(bids.price)" * 2 + 1 AS twice
output out ← s/project/1
    name Utf8, window_end Timestamp(ms), dear Int64, twice Int64
exchange s.window_aggregate.0.0 ← s/project/0
    by upper(bids.item)
