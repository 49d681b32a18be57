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
