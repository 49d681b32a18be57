-- What does not take rows that are revised, where it is an input that is.
--- input orders
id Int64
customer Utf8
ts Timestamp(µs)
retract by id
--- input rates
currency Utf8
ts Timestamp(µs) EVENT TIME maxDelay 1
upsert by currency
--- input nothing
k Int64
upsert by
--- input wrong
k Int64
upsert by k, l, k
--- step windows
SELECT count(*) AS n, window_start FROM TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end
--- step over
SELECT id, count(*) OVER (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW) AS n FROM orders
--- step versions
SELECT o.id, r.ts AS since FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.customer = r.currency
--- output windows from windows
--- problems
SchemaInvalid | input rates | event time of rows that are revised is not supported: windows and interval joins take rows that are only appended | remove the event time; the column stays a column
SchemaInvalid | input nothing | rows replace each other by key, and there is none | name the columns of the key
SchemaInvalid | input wrong | there is no column l for the key | name columns of the input
SchemaInvalid | input wrong | the key names the column k twice | name each column once
NotSupported | step windows, line 1, column 41 | TUMBLE over rows that are revised is not supported | window the rows before they are aggregated or joined: what a window has given out cannot be taken back
NotSupported | step over, line 1, column 21 | OVER rows that are revised is not supported | aggregate the rows before they are joined or numbered, or group by a key
NotSupported | step versions, line 1, column 78 | a temporal join of rows that are revised is not supported | join the rows before they are aggregated or numbered
