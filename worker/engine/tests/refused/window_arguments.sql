-- Window functions with wrong arguments.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(ts))
UNION ALL SELECT * FROM TUMBLE(bids, DESCRIPTOR(ts), INTERVAL '1' SECOND)
UNION ALL SELECT * FROM TUMBLE(TABLE bids, ts, INTERVAL '1' SECOND)
UNION ALL SELECT * FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), GAP => INTERVAL '1' SECOND)
UNION ALL SELECT * FROM TUMBLE(TABLE bids PARTITION BY item, DESCRIPTOR(ts), INTERVAL '1' SECOND)
--- output out from s
--- problems
NotSupported | step s, line 1, column 15 | TUMBLE needs SIZE | write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])
NotSupported | step s, line 2, column 25 | the first argument is to be TABLE and the name of a table, not bids | write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])
NotSupported | step s, line 3, column 25 | the time is to be given as DESCRIPTOR(column), not ts | write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])
NotSupported | step s, line 4, column 25 | TUMBLE has no argument GAP | write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])
NotSupported | step s, line 5, column 25 | TUMBLE takes no PARTITION BY | write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])
