-- A column that is neither grouped by nor aggregated.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}

--- policy
stateTtl 3600
--- step s
SELECT item, price, count(*) AS n FROM bids GROUP BY item
--- output out from s
--- problems
PlanInvalid | step s, line 1, column 14 | Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "bids.price" must appear in the GROUP BY clause or must be part of an aggregate function, currently only "bids.item, count(Int64(1))" appears in the SELECT clause satisfies this requirement | -
PlanInvalid | step s, line 1, column 14 | Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "bids.price" must appear in the GROUP BY clause or must be part of an aggregate function, currently only "bids.item" appears in the SELECT clause satisfies this requirement | -
