SELECT * FROM taskweave.whole_job WHERE seq > $1 AND seq <= $2 ORDER BY seq;
