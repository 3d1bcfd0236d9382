SELECT * FROM taskweave.whole_job WHERE seq = ANY($1::bigint[]) ORDER BY seq FOR UPDATE;
