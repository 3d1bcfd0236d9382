SELECT id FROM taskweave_job WHERE id IN $1;
