-- A full join of groups: a group without a name on each side looks the same in the names of both, so that they are no key.
--- input sold
item Utf8
price Int64
{"item":"a","price":1}
{"item":null,"price":2}
--- input bought
item Utf8
price Int64
{"item":"a","price":3}
{"item":null,"price":4}
{"item":"b","price":5}
--- policy
stateTtl 3600
--- step s
SELECT x.item, x.total, y.item AS other, y.total AS spent FROM (SELECT item, sum(price) AS total FROM sold GROUP BY item) x
FULL JOIN (SELECT item, sum(price) AS total FROM bought GROUP BY item) y ON x.item = y.item
--- output out from s
item Utf8, total Int64, other Utf8, spent Int64 (revised, key )
+I {"item":"a","total":1}
+I {"total":2}
-D {"item":"a","total":1}
+I {"item":"a","total":1,"other":"a","spent":3}
+I {"spent":4}
+I {"other":"b","spent":5}
--- explain
input sold (2 of 2 columns)
    item Utf8, price Int64
input bought (2 of 2 columns)
    item Utf8, price Int64
s/aggregate/0 ← sold
    item, sum(price) (kept for 3600s)
s/aggregate/1 ← bought
    item, sum(price) (kept for 3600s)
s/join/0 ← s/aggregate/0, s/aggregate/1
    full on left.item = right.item; kept for 3600 s
s/project/0 ← s/join/0
    item, total, item AS other, total AS spent
output out ← s/project/0
    item Utf8, total Int64, other Utf8, spent Int64
exchange s.aggregate.0.0 ← sold
    by item
exchange s.aggregate.1.0 ← bought
    by item
