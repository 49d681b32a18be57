-- HOP whose size is no multiple of its slide.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '4' SECOND, INTERVAL '10' SECOND)
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 15 | HOP: the size 10s is no multiple of the slide 4s | choose a slide that divides the size
