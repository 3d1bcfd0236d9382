SELECT finished_at, seq FROM taskweave.job
WHERE
    state = $1 AND state > 2 AND finished_at <= $2 AND (window_until IS NULL OR window_until <= $3)
ORDER BY finished_at, seq LIMIT $4 FOR UPDATE SKIP LOCKED;
