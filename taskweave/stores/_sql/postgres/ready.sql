SELECT
    rank_a, rank_b, seq, fragile, id, queue, task, payload, spec_rest, life_rest, attempt, fence, run_at, due_at,
    expires_at
FROM taskweave.job
WHERE state = 1 AND aside = 0 AND queue = $1 AND task = $2 AND fragile = $3 AND NOT seq = ANY($4::bigint[])
ORDER BY rank_a, rank_b, seq LIMIT $5 FOR UPDATE SKIP LOCKED;
