-- An aggregate in WHERE.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- step s
SELECT item FROM bids WHERE count(*) > 1
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 29 | Aggregate functions are not allowed in the WHERE clause. Consider using HAVING instead | -
