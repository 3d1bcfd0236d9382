SELECT finished_at, seq, unique_key FROM job
WHERE state = ? AND state > 2 AND finished_at <= ? ORDER BY finished_at, seq;
