SELECT run_at, seq FROM job WHERE state = 0 AND queue = ? AND run_at <= ? ORDER BY run_at, seq LIMIT ?;
