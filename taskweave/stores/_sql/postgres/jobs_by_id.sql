SELECT * FROM taskweave.whole_job WHERE id = ANY($1::text[]) ORDER BY seq FOR UPDATE;
