-- A window of no length.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '0' SECOND)
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 59 | TUMBLE: INTERVAL '0' SECOND is no length of time | write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])
