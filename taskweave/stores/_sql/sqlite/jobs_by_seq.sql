SELECT * FROM whole_job WHERE seq IN (SELECT value FROM json_each(?));
