-- A group that is gone begins anew when it comes again: nothing is left of what it held, not even what doubles do not give back (0.1 + 0.2 - 0.1 - 0.2 is not 0).
--- input sales
item Utf8
price Float64
{"item":"a","price":0.1}
{"item":"b","price":0.2}
{"item":"a","price":1.0}
{"item":"b","price":1.0}
{"item":"c","price":0.001}
--- policy
stateTtl 3600
--- step s
SELECT n, sum(total) AS total, count(*) AS items FROM (SELECT item, count(*) AS n, sum(price) AS total FROM sales GROUP BY item) GROUP BY n
--- output out from s
n Int64, total Float64, items Int64 (revised, key n)
+I {"n":2,"total":2.3,"items":2}
+I {"n":1,"total":0.001,"items":1}
--- explain
input sales (2 of 2 columns)
    item Utf8, price Float64
s/aggregate/0 ← sales
    count(*), sum(price) (kept for 3600s)
s/aggregate/1 ← s/aggregate/0
    n, sum(total), count(*) (kept for 3600s, takes rows back)
s/project/0 ← s/aggregate/1
    n, "sum(total)" AS total, "count(Int64(1))" AS items
output out ← s/project/0
    n Int64, total Float64, items Int64
no exchange
    operator s/aggregate/1 brings rows together by count(*), which says nothing of where they are after operator s/aggregate/0 by item: they would have to be exchanged a second time, which is not supported; keep a column of the earlier key, as it is, in the key of s/aggregate/1
