SELECT prune_at, seq FROM job
WHERE chore = 0 AND chore_at <= ? AND prune_at <= ? ORDER BY prune_at, seq LIMIT ?;
