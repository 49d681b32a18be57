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
--- output all from items
--- explain
