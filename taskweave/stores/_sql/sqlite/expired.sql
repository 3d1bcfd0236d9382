SELECT seq FROM job
WHERE expires_at IS NOT NULL AND state < 2 AND expires_at <= ? ORDER BY expires_at, seq LIMIT ?;
