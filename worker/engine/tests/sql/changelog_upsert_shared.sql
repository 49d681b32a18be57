-- Rows that replace each other by key need no time to live, and are shared out by their key; what is joined and grouped by it is with them.
--- input items
id Int64
kind Utf8
price Int64
upsert by id
+I {"id":1,"kind":"a","price":10}
+I {"id":2,"kind":"b","price":20}
+I {"id":3,"kind":"a","price":30}
+I {"id":1,"kind":"b","price":10}
-D {"id":2}
+I {"id":3,"kind":"a","price":31}
+I {"id":4,"kind":"c","price":4}
-D {"id":4}
--- step cheap
SELECT id, price + 1 AS price FROM items WHERE kind = 'a'
--- output cheap from cheap
id Int64, price Int64 (revised, key id)
+I {"id":3,"price":32}
--- output all from items
id Int64, kind Utf8, price Int64 (revised, key id)
+I {"id":1,"kind":"b","price":10}
+I {"id":3,"kind":"a","price":31}
--- explain
input items (3 of 3 columns) (upserts, key id)
    id Int64, kind Utf8, price Int64
items/normalize/0 ← items
    the last row of each id, revised by the next; kept until it is deleted
cheap/filter/0 ← items/normalize/0
    kind = 'a'
cheap/project/0 ← cheap/filter/0
    id, price + 1 AS price
output cheap ← cheap/project/0
    id Int64, price Int64
output all ← items/normalize/0
    id Int64, kind Utf8, price Int64
exchange items.normalize.0.0 ← items
    by id
