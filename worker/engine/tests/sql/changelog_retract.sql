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
--- output large from large
--- output totals from totals
--- output joined from joined
--- output top from top
--- explain
