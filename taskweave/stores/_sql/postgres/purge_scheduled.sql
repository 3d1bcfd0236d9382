SELECT run_at, seq FROM taskweave.job
WHERE state = 0 AND queue = $1 ORDER BY run_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED;
