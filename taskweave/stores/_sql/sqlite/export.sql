SELECT * FROM whole_job WHERE seq > ? ORDER BY seq;
