SELECT * FROM whole_job WHERE state = ? AND state > 3 AND seq < ? ORDER BY seq DESC;
