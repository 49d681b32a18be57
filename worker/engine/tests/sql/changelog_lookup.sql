-- A compacted changelog as the table that rows are looked up in, as of processing time.
--- input rates
currency Utf8
rate Int64
upsert by currency
+I {"currency":"EUR","rate":2}
+I {"currency":"USD","rate":3}
+I {"currency":"EUR","rate":4}
-D {"currency":"USD"}
idle
--- input orders
id Int64
currency Utf8
{"id":1,"currency":"EUR"}
{"id":2,"currency":"USD"}
--- step priced
SELECT o.id, r.rate FROM (SELECT *, PROCTIME() AS proc FROM orders) AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proc AS r ON o.currency = r.currency
--- output priced from priced
id Int64, rate Int64
{"id":1,"rate":4}
{"id":2}
--- explain
input rates (2 of 2 columns) (upserts, key currency)
    currency Utf8, rate Int64
input orders (2 of 2 columns)
    id Int64, currency Utf8
rates/normalize/0 ← rates
    the last row of each currency, revised by the next; kept until it is deleted
priced/temporal_join/0 ← orders, rates/normalize/0
    left on left.currency = right.currency; right as it is when left comes
output priced ← priced/temporal_join/0
    id Int64, rate Int64
no exchange
    it goes by processing time, which is that of one task: window by event time to share the work
