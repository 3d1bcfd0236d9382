INSERT INTO taskweave_job (
    state, id, queue, task, fragile, rank_a, rank_b, run_at, spec_rest, created_at, due_at, expires_at, ttl_us,
    keep_us, window_until, unique_key, payload
) VALUES $rows;
