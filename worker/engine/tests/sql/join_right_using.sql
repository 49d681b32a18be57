-- RIGHT JOIN … USING: the key stands once, with the value of the side that has one.
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
SELECT id, name, category FROM (SELECT seller AS id, category FROM auction) a RIGHT JOIN person USING (id)
--- output out from s
id Int64, name Utf8, category Int64 (revised, key )
+I {"id":10,"name":"ada","category":7}
+I {"id":10,"name":"ada","category":8}
+I {"id":11,"name":"bob","category":7}
+I {"name":"cyd"}
--- explain
input auction (3 of 5 columns)
    seller Int64, category Int64, time Timestamp(µs)
input person (3 of 4 columns)
    id Int64, name Utf8, time Timestamp(µs)
s/join/0 ← auction, person
    right on left.seller = right.id; kept for 3600 s
s/project/0 ← s/join/0
    id, name, category
output out ← s/project/0
    id Int64, name Utf8, category Int64
exchange s.join.0.0 ← auction
    by seller
exchange s.join.0.1 ← person
    by id
