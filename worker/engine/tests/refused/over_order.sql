-- OVER in another order.
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
SELECT sum(price) OVER (PARTITION BY bidder ORDER BY price) AS n FROM bid
--- output out from s
--- problems
NotSupported | step s, line 1, column 19 | OVER in another order than that of event time is not supported | write ORDER BY the event time of the input, ascending, and nothing else; eventTime of the Source says which column it is. Or order by PROCTIME() AS a column of a step below
