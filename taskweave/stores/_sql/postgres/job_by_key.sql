SELECT * FROM taskweave.whole_job WHERE unique_key = $1 FOR UPDATE;
