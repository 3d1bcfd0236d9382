SELECT * FROM whole_job WHERE id IN (SELECT value FROM json_each(?));
