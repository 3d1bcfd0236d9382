INSERT INTO job (
    seq, state, id, queue, task, aside, fragile, rank_a, rank_b, run_at, attempt, fence, spec_rest, created_at, due_at,
    expires_at, unique_key, payload
) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?);
