-- A table joined with itself: each row meets itself once.
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
--- policy
stateTtl 3600
--- step s
SELECT one.bidder, one.price, other.price AS other FROM bid one JOIN bid other ON one.bidder = other.bidder AND one.price <= other.price
--- output out from s
bidder Int64, price Int64, other Int64
{"bidder":20,"price":100,"other":100}
{"bidder":20,"price":50,"other":100}
{"bidder":21,"price":300,"other":300}
{"bidder":21,"price":70,"other":300}
{"bidder":21,"price":70,"other":300}
{"bidder":20,"price":100,"other":300}
{"bidder":20,"price":300,"other":300}
{"bidder":20,"price":50,"other":300}
{"bidder":22,"price":300,"other":300}
{"bidder":20,"price":50,"other":50}
{"bidder":20,"price":100,"other":900}
{"bidder":20,"price":300,"other":900}
{"bidder":20,"price":50,"other":900}
{"bidder":20,"price":900,"other":900}
{"bidder":21,"price":70,"other":70}
{"bidder":21,"price":70,"other":70}
{"bidder":21,"price":70,"other":70}
{"bidder":21,"price":70,"other":70}
--- explain
input bid (3 of 4 columns)
    bidder Int64, price Int64, time Timestamp(µs)
s/join/0 ← bid, bid
    inner on left.bidder = right.bidder AND price <= price; kept for 3600 s
s/project/0 ← s/join/0
    bidder, price, price AS other
output out ← s/project/0
    bidder Int64, price Int64, other Int64
exchange s.join.0.0 ← bid
    by bidder
