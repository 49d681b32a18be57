-- An input whose rows replace each other by key: what does not change is not said, deletions need only the key, and may come twice or for what is not there.
--- input accounts
bank Utf8
number Int64
owner Utf8
balance Int64
upsert by bank, number
+I {"bank":"a","number":1,"owner":"ann","balance":10}
+I {"bank":"b","number":1,"owner":"bob","balance":20}
+I {"bank":"a","number":1,"owner":"ann","balance":10}
-D {"bank":"c","number":7}
+I {"bank":"a","number":1,"owner":"ann","balance":30}
-D {"bank":"b","number":1}
-D {"bank":"b","number":1}
+I {"bank":"b","number":1,"owner":"cid","balance":5}
+I {"bank":"a","number":2,"owner":"ann","balance":null}
-D {"bank":"a","number":1}
--- policy
stateTtl 3600
--- step rich
SELECT number, bank, balance * 2 AS twice FROM accounts WHERE balance >= 20
--- step owners
SELECT owner, count(*) AS n, sum(balance) AS total FROM accounts GROUP BY owner
--- step banks
SELECT bank, count(*) AS n FROM accounts GROUP BY bank
--- output all from accounts
--- output rich from rich
--- output owners from owners
--- output banks from banks
--- explain
