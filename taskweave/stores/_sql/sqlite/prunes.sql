SELECT chore_at, seq FROM job WHERE chore = 1 AND chore_at <= ? ORDER BY chore_at, seq LIMIT ?;
