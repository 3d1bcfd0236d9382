SELECT prune_at, seq FROM taskweave.job
WHERE chore = 0 AND chore_at <= $1 AND prune_at <= $1 ORDER BY prune_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED;
