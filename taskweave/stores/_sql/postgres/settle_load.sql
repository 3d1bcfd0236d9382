SELECT id, seq, fence, state, ttl_us, keep_us, window_until, unique_key, settled_fence, settled_digest
FROM taskweave.job WHERE id = ANY($1::text[]) ORDER BY seq FOR UPDATE;
