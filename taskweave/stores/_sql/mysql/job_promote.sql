UPDATE taskweave_job SET state = 1 WHERE seq IN $1;
