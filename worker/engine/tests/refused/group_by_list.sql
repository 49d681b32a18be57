-- A list as a key.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- policy
stateTtl 3600
--- step s
SELECT [price] AS p, count(*) AS n FROM bids GROUP BY [price]
--- output out from s
--- problems
NotSupported | step s | GROUP BY "make_array(bids.price)", which is List(Int64), is not supported | group by single values of it
