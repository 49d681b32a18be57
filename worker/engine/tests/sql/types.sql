-- Decimals, dates, booleans, unsigned numbers and lists.
--- input t
d Decimal128(10, 2)
day Date32
b Boolean
u UInt16
f Float64
l List(Int64)
{"d":"12.34","day":"2026-11-01","b":true,"u":7,"f":1.5,"l":[1,2]}
{"d":"-0.05","day":null,"b":false,"u":65535,"f":null,"l":null}
--- step s
SELECT d * 2 AS a, d / 3 AS b, day + INTERVAL '1' DAY AS c, NOT b AS d, u + 1 AS e, CAST(f AS INT) AS f, l[1] AS g, date_part('month', day) AS h FROM t
--- output out from s
a Decimal128(31, 2), b Decimal128(14, 6), c Date32, d Boolean, e Int64, f Int32, g Int64, h Int32
{"a":24.68,"b":4.113333,"c":"2026-11-02","d":false,"e":8,"f":1,"g":1,"h":11}
{"a":-0.10,"b":-0.016666,"d":true,"e":65536}
