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
--- explain
