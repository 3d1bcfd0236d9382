SELECT run_at, seq FROM job WHERE aside = 1 AND queue = ? ORDER BY run_at, seq LIMIT ?;
