INSERT INTO taskweave.job (
    state, id, queue, task, fragile, rank_a, rank_b, run_at, spec_rest, created_at, due_at, expires_at, ttl_us,
    keep_us, window_until, unique_key, payload
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);
