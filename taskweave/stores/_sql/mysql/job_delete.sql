-- By its index whatever the size of the table: a scan would wait for the locks of others.
DELETE job FROM taskweave_job AS job FORCE INDEX (PRIMARY) WHERE job.seq IN $1;
