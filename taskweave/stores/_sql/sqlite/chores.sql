SELECT seq FROM job WHERE chore = ? AND chore_at <= ? ORDER BY chore_at, seq LIMIT ?;
