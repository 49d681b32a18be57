-- Keys may be computed, and have other types on both sides.
--- input auction
id Int64
seller Int64
category Int64
time Timestamp(µs) EVENT TIME maxDelay 0
expires Timestamp(µs)
{"id":1,"seller":10,"category":7,"time":"2026-11-01T10:00:00","expires":"2026-11-01T10:00:08"}
{"id":2,"seller":11,"category":7,"time":"2026-11-01T10:00:03","expires":"2026-11-01T10:00:09"}
{"id":3,"seller":10,"category":8,"time":"2026-11-01T10:00:12","expires":"2026-11-01T10:00:30"}
{"id":4,"seller":null,"category":8,"time":"2026-11-01T10:00:15","expires":"2026-11-01T10:00:30"}
--- input person
id Int64
name Utf8
state Utf8
time Timestamp(µs) EVENT TIME maxDelay 0
{"id":10,"name":"ada","state":"OR","time":"2026-11-01T10:00:00"}
{"id":11,"name":"bob","state":"CA","time":"2026-11-01T10:00:02"}
{"id":12,"name":"cyd","state":"OR","time":"2026-11-01T10:00:13"}
--- policy
stateTtl 3600
--- step s
SELECT a.id, p.name FROM auction a JOIN person p ON a.seller + 1 = CAST(p.id AS INT) AND p.state = CASE WHEN a.category = 7 THEN 'CA' ELSE 'OR' END
--- output out from s
id Int64, name Utf8
{"id":1,"name":"bob"}
--- explain
input auction (4 of 5 columns)
    id Int64, seller Int64, category Int64, time Timestamp(µs)
input person (4 of 4 columns)
    id Int64, name Utf8, state Utf8, time Timestamp(µs)
s/project/0 ← auction
    seller + 1 AS a.seller + Int64(1), CASE WHEN category = 7 THEN 'CA' ELSE 'OR' END AS CASE WHEN a.category = Int64(7) THEN Utf8("CA") ELSE Utf8("OR") END, id
s/project/1 ← person
    CAST(CAST(id AS Int32) AS Int64) AS p.id, state, name
s/join/0 ← s/project/0, s/project/1
    inner on left.a.seller + Int64(1) = right.p.id AND left.CASE WHEN a.category = Int64(7) THEN Utf8("CA") ELSE Utf8("OR") END = right.state; kept for 3600 s
output out ← s/join/0
    id Int64, name Utf8
exchange s.join.0.0 ← s/project/0
    by a.seller + Int64(1), CASE WHEN a.category = Int64(7) THEN Utf8("CA") ELSE Utf8("OR") END
exchange s.join.0.1 ← s/project/1
    by p.id, state
