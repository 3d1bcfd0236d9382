SELECT seq FROM taskweave.job
WHERE expires_at IS NOT NULL AND state < 2 AND expires_at <= $1
ORDER BY expires_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED;
