SELECT run_at, seq FROM job WHERE state = 0 AND queue = ? ORDER BY run_at, seq LIMIT ?;
