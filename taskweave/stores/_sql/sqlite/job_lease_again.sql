UPDATE job SET lease_until = ? WHERE state = 2 AND lease_until < ?;
