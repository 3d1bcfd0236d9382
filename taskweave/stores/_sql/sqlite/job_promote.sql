UPDATE job SET state = 1 WHERE seq IN (SELECT value FROM json_each(?));
