-- An aggregate over everything.
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
--- policy
stateTtl 3600
--- step s
SELECT count(*) AS n, count(price) AS p, max(ts) AS last FROM bids
--- output out from s
n Int64, p Int64, last Timestamp(ms) (revised, key )
+I {"n":8,"p":7,"last":"2026-11-01T10:00:21"}
--- explain
input bids (2 of 3 columns)
    ts Timestamp(ms), price Int64
s/aggregate/0 ← bids
    count(*), count(price), max(ts) (kept for 3600s)
s/project/0 ← s/aggregate/0
    "count(Int64(1))" AS n, "count(bids.price)" AS p, "max(bids.ts)" AS last
output out ← s/project/0
    n Int64, p Int64, last Timestamp(ms)
no exchange
    operator s/aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
