-- A window over a time that is computed.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE later, DESCRIPTOR(ts), INTERVAL '1' SECOND)
--- step later
SELECT ts + INTERVAL '1' SECOND AS ts FROM bids
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 46 | ts is not an event time, so TUMBLE cannot know when a window is complete | name the column in spec.eventTime of the Source, with the delay that is to be waited for, and select it unchanged; for processing time, select PROCTIME() AS a column in a step or subquery below
