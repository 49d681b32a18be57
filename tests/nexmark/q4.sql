-- Average closing price of each category. The outer CAST says what Flink does anyway: its AVG of a BIGINT is a BIGINT.
-- inputs: auction, bid
SELECT Q.category, CAST(AVG(Q.final) AS BIGINT) AS average
FROM (
  SELECT MAX(B.price) AS final, A.category
  FROM auction A, bid B
  WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires
  GROUP BY A.id, A.category
) Q
GROUP BY Q.category
