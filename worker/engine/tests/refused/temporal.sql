-- What a join with a table at one moment cannot be.
--- input rates
currency Utf8
country Utf8
rate Float64
since Timestamp(µs) EVENT TIME maxDelay 0
--- input plain
currency Utf8
rate Float64
--- input orders
id Int64
currency Utf8
created Timestamp(µs)
ts Timestamp(µs) EVENT TIME maxDelay 0
--- policy
stateTtl 60
--- step versioned
SELECT currency, country, rate, since FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY currency, country ORDER BY since DESC) AS n FROM rates) WHERE n = 1
--- step totals
SELECT currency, sum(rate) AS rate FROM rates GROUP BY currency
--- step no_time_attribute
SELECT o.id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.created AS r ON o.currency = r.currency
--- step unknown_time
SELECT o.id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF r.since AS r ON o.currency = r.currency
--- step constant
SELECT o.id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01' AS r ON o.currency = r.currency
--- step direct
SELECT o.id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF PROCTIME() AS r ON o.currency = r.currency
--- step part_of_key
SELECT o.id FROM orders o JOIN versioned FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
--- step no_version
SELECT o.id FROM orders o JOIN totals FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
--- step no_event_time
SELECT o.id FROM orders o JOIN plain FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
--- step no_key
SELECT o.id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.id > r.rate
--- step right_join
SELECT o.id FROM orders o RIGHT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
--- step revised
SELECT t.currency FROM totals t JOIN rates FOR SYSTEM_TIME AS OF t.rate AS r ON t.currency = r.currency
--- step wrong_side
SELECT o.id FROM rates FOR SYSTEM_TIME AS OF o.ts AS r JOIN orders o ON o.currency = r.currency
--- output out from versioned
--- problems
PlanInvalid | step no_time_attribute, line 1, column 60 | created is no event time and no processing time, so there is no telling which version is meant | name the event time of the left table as spec.eventTime of its Source says, or a column that is PROCTIME()
UnknownColumn | step unknown_time, line 1, column 60 | there is no column r.since on the left of the join | FOR SYSTEM_TIME AS OF takes a time of the table that is joined, not of the table that is looked up
NotSupported | step constant, line 1, column 70 | FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01' is not supported | write the name of a column of the other table: its event time, or PROCTIME() AS a column of a step or subquery below
NotSupported | step direct, line 1, column 60 | FOR SYSTEM_TIME AS OF PROCTIME() is not supported | write the name of a column of the other table: its event time, or PROCTIME() AS a column of a step or subquery below
NotSupported | step part_of_key, line 1, column 64 | a temporal join that does not compare the whole key of the versioned table is not supported | compare currency, country with columns of the left table, as PARTITION BY names them
NotSupported | step no_version, line 1, column 61 | a temporal join by event time with this table is not supported: it is revised, and does not say from when on its rows are in force | look up an input with an event time, or a step that keeps the last row of each key: SELECT … FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) AS n FROM t) WHERE n = 1, with key and time among its columns; or join as of PROCTIME() AS a column
NotSupported | step no_event_time, line 1, column 60 | a temporal join by event time with a table that has no event time is not supported | look up an input with an event time, or a step that keeps the last row of each key: SELECT … FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) AS n FROM t) WHERE n = 1, with key and time among its columns; or join as of PROCTIME() AS a column
NotSupported | step no_key, line 1, column 60 | a temporal join without equal columns is not supported | join on equal columns of both tables: ON t.key = s.key
NotSupported | step right_join, line 1, column 66 | a temporal join other than JOIN and LEFT JOIN is not supported | turn the sides round, or write JOIN or LEFT JOIN
NotSupported | step revised, line 1, column 66 | a temporal join of rows that are revised is not supported | join the rows before they are aggregated or numbered
NotSupported | step wrong_side, line 1, column 46 | FOR SYSTEM_TIME AS OF anywhere but right after JOIN or LEFT JOIN is not supported | write FROM s JOIN t FOR SYSTEM_TIME AS OF s.time ON t.key = s.key
