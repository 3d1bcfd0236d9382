SELECT run_at, seq FROM taskweave_job FORCE INDEX (job_due)
WHERE waiting = 1 AND queue = $1 ORDER BY run_at, seq LIMIT $2
FOR UPDATE SKIP LOCKED;
