SELECT
    rank_a, rank_b, seq, fragile, id, queue, task, payload, spec_rest, life_rest, attempt, fence, run_at, due_at,
    expires_at
FROM taskweave_job FORCE INDEX (job_ready)
WHERE ready = 1 AND queue = $1 AND task = $2 AND fragile = $3 AND seq NOT IN $4
ORDER BY rank_a, rank_b, seq LIMIT $5
FOR UPDATE SKIP LOCKED;
