-- A window of no fixed length.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' MONTH)
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 59 | TUMBLE: INTERVAL '1' MONTH is not of one length | months and years differ: write days or hours
