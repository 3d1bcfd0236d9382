SELECT chore_at, seq FROM taskweave.job
WHERE chore = 1 AND chore_at <= $1 ORDER BY chore_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED;
