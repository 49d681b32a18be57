-- Bids on some auctions.
-- inputs: bid
SELECT auction, price
FROM bid
WHERE MOD(auction, 123) = 0
