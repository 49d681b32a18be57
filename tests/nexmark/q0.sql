-- Passes every bid on: what reading and writing cost by themselves.
-- inputs: bid
SELECT auction, bidder, price, `dateTime`, extra
FROM bid
