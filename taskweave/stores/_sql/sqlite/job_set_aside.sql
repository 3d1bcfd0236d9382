UPDATE job SET aside = 1 WHERE seq IN (SELECT value FROM json_each(?));
