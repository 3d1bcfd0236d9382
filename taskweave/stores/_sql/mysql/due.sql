SELECT run_at, seq FROM taskweave_job FORCE INDEX (job_due)
WHERE waiting = 1 AND queue = $1 AND run_at <= $2 ORDER BY run_at, seq LIMIT $3
FOR UPDATE SKIP LOCKED;
