-- A window over rows that are revised.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- policy
stateTtl 3600
--- step s
SELECT window_end, count(*) AS n FROM TUMBLE(TABLE latest, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_end
--- step latest
SELECT ts, count(*) AS n FROM bids GROUP BY ts
--- output out from s
--- problems
NotSupported | step s, line 1, column 39 | TUMBLE over rows that are revised is not supported | window the rows before they are aggregated or joined: what a window has given out cannot be taken back
