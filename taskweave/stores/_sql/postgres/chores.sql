SELECT seq FROM taskweave.job
WHERE chore = $1 AND chore_at <= $2 ORDER BY chore_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED;
