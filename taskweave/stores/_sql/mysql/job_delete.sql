DELETE FROM taskweave_job WHERE seq IN $1;
