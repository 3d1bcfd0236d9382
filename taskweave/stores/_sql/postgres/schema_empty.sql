DROP FUNCTION IF EXISTS taskweave.exchange;
DROP FUNCTION IF EXISTS taskweave.enqueue;
DROP VIEW IF EXISTS taskweave.whole_job;
DROP TABLE IF EXISTS taskweave.job, taskweave.claim, taskweave.pause, taskweave.meta;
