-- leap $1: run again after the last one found, until there is none
SELECT queue FROM taskweave_job FORCE INDEX (job_due)
WHERE waiting = 1 AND queue > $1 ORDER BY queue LIMIT 1;
