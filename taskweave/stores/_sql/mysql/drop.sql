DROP TABLE IF EXISTS taskweave_meta, taskweave_job, taskweave_claim, taskweave_pause;
