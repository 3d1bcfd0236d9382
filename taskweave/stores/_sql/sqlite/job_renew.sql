UPDATE job SET lease_until = ? WHERE seq IN (SELECT value FROM json_each(?));
