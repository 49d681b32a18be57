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
bank Utf8, number Int64, owner Utf8, balance Int64 (revised, key bank, number)
+I {"bank":"b","number":1,"owner":"cid","balance":5}
+I {"bank":"a","number":2,"owner":"ann"}
--- output rich from rich
number Int64, bank Utf8, twice Int64 (revised, key bank, number)
--- output owners from owners
owner Utf8, n Int64, total Int64 (revised, key owner)
+I {"owner":"cid","n":1,"total":5}
+I {"owner":"ann","n":1}
--- output banks from banks
bank Utf8, n Int64 (revised, key bank)
+I {"bank":"b","n":1}
+I {"bank":"a","n":1}
--- explain
input accounts (4 of 4 columns) (upserts, key bank, number)
    bank Utf8, number Int64, owner Utf8, balance Int64
accounts/normalize/0 ← accounts
    the last row of each bank, number, revised by the next; kept until it is deleted
rich/filter/0 ← accounts/normalize/0
    balance >= 20
rich/project/0 ← rich/filter/0
    number, bank, balance * 2 AS twice
owners/aggregate/0 ← accounts/normalize/0
    owner, count(*), sum(balance) (kept for 3600s, takes rows back)
banks/aggregate/0 ← accounts/normalize/0
    bank, count(*) (kept for 3600s, takes rows back)
owners/project/0 ← owners/aggregate/0
    owner, "count(Int64(1))" AS n, "sum(accounts.balance)" AS total
banks/project/0 ← banks/aggregate/0
    bank, "count(Int64(1))" AS n
output all ← accounts/normalize/0
    bank Utf8, number Int64, owner Utf8, balance Int64
output rich ← rich/project/0
    number Int64, bank Utf8, twice Int64
output owners ← owners/project/0
    owner Utf8, n Int64, total Int64
output banks ← banks/project/0
    bank Utf8, n Int64
no exchange
    operator owners/aggregate/0 brings rows together by owner, which says nothing of where they are after operator accounts/normalize/0 by bank, number: they would have to be exchanged a second time, which is not supported; keep a column of the earlier key, as it is, in the key of owners/aggregate/0
