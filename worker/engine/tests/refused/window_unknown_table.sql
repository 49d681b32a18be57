-- A window over a table that there is not.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' SECOND)
--- output out from s
--- problems
UnknownTable | step s, line 1, column 28 | there is no table bid | did you mean bids? inputs and steps are: bids
