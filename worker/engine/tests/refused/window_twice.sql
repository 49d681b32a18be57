-- A window over rows that have window columns already.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE windowed, DESCRIPTOR(ts), INTERVAL '1' SECOND)
--- step windowed
SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '1' SECOND)
--- output out from s
--- problems
SchemaInvalid | step s, line 1, column 15 | TUMBLE adds a column window_start, which the table has already | select it under another name first: window_start AS first_window_start
