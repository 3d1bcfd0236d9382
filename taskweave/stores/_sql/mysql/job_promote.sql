UPDATE taskweave_job FORCE INDEX (PRIMARY) SET state = 1 WHERE seq IN $1;
