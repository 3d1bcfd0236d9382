SELECT run_at FROM job WHERE state = 0 AND queue = ? ORDER BY run_at LIMIT 1;
