-- Orders with the rate at their time: of a step that keeps the last row of each key, and of an input that is only appended to.
--- input rates
currency Utf8
rate Float64
since Timestamp(µs) EVENT TIME maxDelay 0
{"currency":"eur","rate":1.0,"since":"2026-11-01T10:00:00"}
{"currency":"usd","rate":0.9,"since":"2026-11-01T10:00:10"}
{"currency":"eur","rate":1.1,"since":"2026-11-01T10:00:20"}
{"currency":"usd","rate":0.8,"since":"2026-11-01T10:00:05"}
{"currency":"eur","rate":1.2,"since":"2026-11-01T10:00:20"}
{"currency":null,"rate":5.0,"since":"2026-11-01T10:00:00"}
{"currency":"usd","rate":0.7,"since":"2026-11-01T10:01:00"}
--- input orders
id Int64
currency Utf8
price Float64
ts Timestamp(µs) EVENT TIME maxDelay 20
{"id":1,"currency":"eur","price":10,"ts":"2026-11-01T10:00:05"}
{"id":2,"currency":"usd","price":10,"ts":"2026-11-01T10:00:05"}
{"id":3,"currency":"eur","price":10,"ts":"2026-11-01T10:00:20"}
{"id":4,"currency":"usd","price":10,"ts":"2026-11-01T10:00:04"}
{"id":5,"currency":"gbp","price":10,"ts":"2026-11-01T10:00:30"}
{"id":6,"currency":null,"price":10,"ts":"2026-11-01T10:00:30"}
{"id":7,"currency":"usd","price":10,"ts":"2026-11-01T10:00:30"}
{"id":8,"currency":"usd","price":10,"ts":"2026-11-01T10:01:30"}
--- policy
stateTtl 3600
--- step versioned
SELECT currency, rate, since FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY since DESC) AS n FROM rates) WHERE n = 1
--- step converted
SELECT o.id, o.price * r.rate AS amount, o.ts FROM orders AS o JOIN versioned FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
--- step padded
SELECT o.id, r.rate, r.since FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON r.currency = o.currency AND r.rate < 1.15
--- step filtered
SELECT id, rate FROM orders LEFT JOIN versioned FOR SYSTEM_TIME AS OF orders.ts ON versioned.currency = orders.currency WHERE rate > 0.85 AND id < 8
--- step counted
SELECT window_end, sum(amount) AS amount FROM TUMBLE(TABLE converted, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end
--- output converted from converted
id Int64, amount Float64, ts Timestamp(µs)
{"id":1,"amount":10.0,"ts":"2026-11-01T10:00:05"}
{"id":2,"amount":8.0,"ts":"2026-11-01T10:00:05"}
{"id":3,"amount":12.0,"ts":"2026-11-01T10:00:20"}
{"id":7,"amount":9.0,"ts":"2026-11-01T10:00:30"}
{"id":8,"amount":7.0,"ts":"2026-11-01T10:01:30"}
--- output padded from padded
id Int64, rate Float64, since Timestamp(µs)
{"id":4}
{"id":1,"rate":1.0,"since":"2026-11-01T10:00:00"}
{"id":2,"rate":0.8,"since":"2026-11-01T10:00:05"}
{"id":3}
{"id":5}
{"id":6}
{"id":7,"rate":0.9,"since":"2026-11-01T10:00:10"}
{"id":8,"rate":0.7,"since":"2026-11-01T10:01:00"}
--- output filtered from filtered
id Int64, rate Float64
{"id":1,"rate":1.0}
{"id":3,"rate":1.2}
{"id":7,"rate":0.9}
--- output counted from counted
window_end Timestamp(µs), amount Float64
{"window_end":"2026-11-01T10:00:10","amount":18.0}
{"window_end":"2026-11-01T10:00:30","amount":12.0}
{"window_end":"2026-11-01T10:00:40","amount":9.0}
{"window_end":"2026-11-01T10:01:40","amount":7.0}
--- explain
input rates (3 of 3 columns)
    currency Utf8, rate Float64, since Timestamp(µs)
input orders (4 of 4 columns)
    id Int64, currency Utf8, price Float64, ts Timestamp(µs)
converted/temporal_join/0 ← orders, rates
    inner on left.currency = right.currency; the version of right by since at left.ts
converted/project/0 ← converted/temporal_join/0
    id, price * rate AS amount, ts
padded/temporal_join/0 ← orders, rates
    left on left.currency = right.currency AND rate < 1.15; the version of right by since at left.ts
filtered/temporal_join/0 ← orders, rates
    left on left.currency = right.currency; the version of right by since at left.ts
filtered/filter/0 ← filtered/temporal_join/0
    rate > 0.85 AND id < 8
counted/window_aggregate/0 ← converted/project/0
    TUMBLE(size 10s): window_end, sum(amount)
counted/project/0 ← counted/window_aggregate/0
    window_end, "sum(converted.amount)" AS amount
output converted ← converted/project/0
    id Int64, amount Float64, ts Timestamp(µs)
output padded ← padded/temporal_join/0
    id Int64, rate Float64, since Timestamp(µs)
output filtered ← filtered/filter/0
    id Int64, rate Float64
output counted ← counted/project/0
    window_end Timestamp(µs), amount Float64
no exchange
    operator counted/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
