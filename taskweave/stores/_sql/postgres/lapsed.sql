SELECT seq FROM taskweave.job
WHERE state = 2 AND lease_until <= $1 ORDER BY lease_until, seq LIMIT $2 FOR UPDATE SKIP LOCKED;
