-- More aggregates, also those that keep all values.
--- input bids
ts Timestamp(ms) EVENT TIME maxDelay 4
item Utf8
price Int64
{"ts":"2026-11-01T10:00:01","item":"a","price":4}
{"ts":"2026-11-01T10:00:03","item":"b","price":2}
{"ts":"2026-11-01T10:00:11","item":"a","price":5}
{"ts":"2026-11-01T10:00:08","item":"c","price":3}
{"ts":"2026-11-01T10:00:09","item":"a","price":null}
{"ts":"2026-11-01T10:00:10","item":"b","price":1}
{"ts":"2026-11-01T10:00:21","item":null,"price":7}
{"ts":"2026-11-01T10:00:19","item":"a","price":6}
--- step s
SELECT window_end, array_agg(item) AS items, first_value(item) AS f, last_value(price) AS l, string_agg(item, '+') AS s, stddev(price) AS d, median(price) AS m, approx_distinct(item) AS ad, bool_or(price > 6) AS b, array_agg(item ORDER BY price DESC NULLS LAST) AS o
FROM TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY window_start, window_end
--- output out from s
window_end Timestamp(ms), items List(Utf8), f Utf8, l Int64, s LargeUtf8, d Float64, m Float64, ad UInt64, b Boolean, o List(Utf8)
{"window_end":"2026-11-01T10:00:10","items":["a","b","c","a"],"f":"a","s":"a+b+c+a","d":1.0,"m":3.0,"ad":3,"b":false,"o":["a","c","b","a"]}
{"window_end":"2026-11-01T10:00:20","items":["a","b","a"],"f":"a","l":6,"s":"a+b+a","d":2.6457513110645907,"m":5.0,"ad":2,"b":false,"o":["a","a","b"]}
{"window_end":"2026-11-01T10:00:30","items":[null],"l":7,"m":7.0,"ad":0,"b":true,"o":[null]}
--- explain
input bids (3 of 3 columns)
    ts Timestamp(ms), item Utf8, price Int64
s/project/0 ← bids
    CAST(price AS Float64) AS __common_expr_1, item, price, window_end
s/project/1 ← s/project/0
    item, price, __common_expr_1, price > 6 AS bids.price > Int64(6), window_end
s/window_aggregate/0 ← s/project/1
    TUMBLE(size 10s): window_end, array_agg(item), first_value(item), last_value(price), string_agg(item, '+'), stddev(__common_expr_1 AS bids.price), median(__common_expr_1 AS bids.price), approx_distinct(item), bool_or(price > 6), array_agg(item) ORDER BY [price DESC NULLS LAST]
s/project/2 ← s/window_aggregate/0
    window_end, "array_agg(bids.item)" AS items, "first_value(bids.item)" AS f, "last_value(bids.price)" AS l, "string_agg(bids.item,Utf8(""+""))" AS s, "stddev(bids.price)" AS d, "median(bids.price)" AS m, "approx_distinct(bids.item)" AS ad, "bool_or(bids.price > Int64(6))" AS b, "array_agg(bids.item) ORDER BY [bids.price DESC NULLS LAST]" AS o
output out ← s/project/2
    window_end Timestamp(ms), items List(Utf8), f Utf8, l Int64, s LargeUtf8, d Float64, m Float64, ad UInt64, b Boolean, o List(Utf8)
no exchange
    operator s/window_aggregate/0 has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a column of the rows as well, if they are to be shared out
