-- A window over something else than a time.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(price), INTERVAL '1' SECOND)
--- output out from s
--- problems
TypeMismatch | step s, line 1, column 45 | TUMBLE needs a timestamp, and price is Int64 | name the column that holds the event time
