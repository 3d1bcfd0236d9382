SELECT
    rank_a, rank_b, seq, fragile, id, queue, task, payload, spec_rest, life_rest, attempt, fence, run_at, due_at,
    expires_at
FROM job
WHERE state = 1 AND aside = 0 AND queue = ? AND task = ? AND fragile = ?
ORDER BY rank_a, rank_b, seq;
