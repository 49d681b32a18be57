-- GROUP BY ALL.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT item, count(*) AS n FROM bids GROUP BY ALL
--- output out from s
--- problems
NotSupported | step s, line 1, column 38 | GROUP BY ALL is not supported | name the columns
