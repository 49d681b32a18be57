-- An input whose rows are replaced and deleted, each with what was there before: kinds are carried through, and each operator takes back what was.
--- input orders
id Int64
customer Utf8
amount Int64
retract by id
+I {"id":1,"customer":"ann","amount":10}
+I {"id":2,"customer":"bob","amount":20}
+I {"id":3,"customer":"ann","amount":5}
-U {"id":1,"customer":"ann","amount":10}
+U {"id":1,"customer":"bob","amount":100}
-D {"id":2,"customer":"bob","amount":20}
-U {"id":3,"customer":"ann","amount":5}
+U {"id":3,"customer":"ann","amount":15}
--- input customers
name Utf8
city Utf8
{"name":"ann","city":"Aachen"}
{"name":"bob","city":"Bonn"}
--- policy
stateTtl 3600
--- step large
SELECT id, amount, 'x' AS x FROM orders WHERE amount >= 15
--- step totals
SELECT customer, count(*) AS n, sum(amount) AS total, max(amount) AS most FROM orders GROUP BY customer
--- step joined
SELECT o.id, c.city, o.amount FROM orders AS o LEFT JOIN customers AS c ON o.customer = c.name
--- step top
SELECT id, amount FROM (SELECT id, amount, ROW_NUMBER() OVER (PARTITION BY 1 ORDER BY amount DESC) AS n FROM orders) WHERE n <= 2
--- output all from orders
id Int64, customer Utf8, amount Int64 (revised, key id)
+I {"id":1,"customer":"ann","amount":10}
+I {"id":2,"customer":"bob","amount":20}
+I {"id":3,"customer":"ann","amount":5}
-U {"id":1,"customer":"ann","amount":10}
+U {"id":1,"customer":"bob","amount":100}
-D {"id":2,"customer":"bob","amount":20}
-U {"id":3,"customer":"ann","amount":5}
+U {"id":3,"customer":"ann","amount":15}
--- output large from large
id Int64, amount Int64, x Utf8 (revised, key id)
+I {"id":2,"amount":20,"x":"x"}
+I {"id":1,"amount":100,"x":"x"}
-D {"id":2,"amount":20,"x":"x"}
+I {"id":3,"amount":15,"x":"x"}
--- output totals from totals
customer Utf8, n Int64, total Int64, most Int64 (revised, key customer)
+I {"customer":"ann","n":1,"total":15,"most":15}
+I {"customer":"bob","n":1,"total":100,"most":100}
--- output joined from joined
id Int64, city Utf8, amount Int64 (revised, key )
+I {"id":1,"amount":100}
+I {"id":3,"amount":15}
-D {"id":3,"amount":15}
+I {"id":3,"city":"Aachen","amount":15}
-D {"id":1,"amount":100}
+I {"id":1,"city":"Bonn","amount":100}
--- output top from top
id Int64, amount Int64 (revised, key )
+I {"id":1,"amount":100}
+I {"id":3,"amount":15}
--- explain
input orders (3 of 3 columns) (revised, key id)
    id Int64, customer Utf8, amount Int64
input customers (2 of 2 columns)
    name Utf8, city Utf8
large/filter/0 ← orders
    amount >= 15
large/project/0 ← large/filter/0
    id, amount, 'x' AS x
totals/aggregate/0 ← orders
    customer, count(*), sum(amount), max(amount) (kept for 3600s, takes rows back)
joined/join/0 ← orders, customers
    left on left.customer = right.name; kept for 3600 s
top/rank/0 ← orders
    row 1 to 2 by amount DESC; at once, revised later; kept for 3600 s
totals/project/0 ← totals/aggregate/0
    customer, "count(Int64(1))" AS n, "sum(orders.amount)" AS total, "max(orders.amount)" AS most
joined/project/0 ← joined/join/0
    id, city, amount
output all ← orders
    id Int64, customer Utf8, amount Int64
output large ← large/project/0
    id Int64, amount Int64, x Utf8
output totals ← totals/project/0
    customer Utf8, n Int64, total Int64, most Int64
output joined ← joined/project/0
    id Int64, city Utf8, amount Int64
output top ← top/rank/0
    id Int64, amount Int64
no exchange
    operator top/rank/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
