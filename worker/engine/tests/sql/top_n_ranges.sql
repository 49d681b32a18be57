-- Numbers from the second on, or one alone: with the number and without.
--- input bids
item Utf8
price Int64
{"item":"a","price":5}
{"item":"a","price":9}
{"item":"a","price":7}
{"item":"b","price":1}
{"item":"a","price":8}
{"item":"b","price":2}
--- policy
stateTtl 60
--- step second
SELECT item, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY price DESC) AS rn FROM bids) WHERE rn = 2
--- step second_numbered
SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY price DESC) AS rn FROM bids) WHERE 2 = rn
--- step middle
SELECT item, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY price DESC) AS rn FROM bids) WHERE rn BETWEEN 2 AND 3
--- step middle_numbered
SELECT item, price, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY price DESC) AS rn FROM bids) WHERE rn > 1 AND rn < 4
--- output second from second
item Utf8, price Int64 (revised, key item)
+I {"item":"a","price":8}
+I {"item":"b","price":1}
--- output second_numbered from second_numbered
item Utf8, price Int64, rn UInt64 (revised, key item)
+I {"item":"a","price":8,"rn":2}
+I {"item":"b","price":1,"rn":2}
--- output middle from middle
item Utf8, price Int64 (revised, key )
+I {"item":"a","price":8}
+I {"item":"a","price":7}
+I {"item":"b","price":1}
--- output middle_numbered from middle_numbered
item Utf8, price Int64, rn UInt64 (revised, key item, rn)
+I {"item":"a","price":8,"rn":2}
+I {"item":"a","price":7,"rn":3}
+I {"item":"b","price":1,"rn":2}
