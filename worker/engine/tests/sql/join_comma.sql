-- Tables in FROM are joined by what WHERE says, in whatever order they stand.
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
--- input bid
auction Int64
bidder Int64
price Int64
time Timestamp(µs) EVENT TIME maxDelay 0
{"auction":1,"bidder":20,"price":100,"time":"2026-11-01T10:00:01"}
{"auction":1,"bidder":21,"price":300,"time":"2026-11-01T10:00:02"}
{"auction":2,"bidder":20,"price":300,"time":"2026-11-01T10:00:04"}
{"auction":1,"bidder":22,"price":300,"time":"2026-11-01T10:00:07"}
{"auction":9,"bidder":20,"price":50,"time":"2026-11-01T10:00:09"}
{"auction":1,"bidder":20,"price":900,"time":"2026-11-01T10:00:10"}
{"auction":3,"bidder":21,"price":70,"time":"2026-11-01T10:00:14"}
{"auction":null,"bidder":21,"price":70,"time":"2026-11-01T10:00:21"}
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
SELECT p.name, b.price FROM person p, bid b, auction a WHERE a.id = b.auction AND a.seller = p.id AND p.state = 'OR' AND b.price < 500
--- output out from s
name Utf8, price Int64
{"name":"ada","price":100}
{"name":"ada","price":300}
{"name":"ada","price":300}
{"name":"ada","price":70}
--- explain
input auction (3 of 5 columns)
    id Int64, seller Int64, time Timestamp(µs)
input bid (3 of 4 columns)
    auction Int64, price Int64, time Timestamp(µs)
input person (4 of 4 columns)
    id Int64, name Utf8, state Utf8, time Timestamp(µs)
s/filter/0 ← person
    state = 'OR'
s/join/0 ← s/filter/0, auction
    inner on left.id = right.seller; kept for 3600 s
s/filter/1 ← bid
    price < 500
s/join/1 ← s/join/0, s/filter/1
    inner on left.id = right.auction; kept for 3600 s
output out ← s/join/1
    name Utf8, price Int64
no exchange
    operator s/join/1 brings rows together by id, which says nothing of where they are after operator s/join/0 by id: they would have to be exchanged a second time, which is not supported; keep a column of the earlier key, as it is, in the key of s/join/1
