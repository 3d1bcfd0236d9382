UPDATE taskweave_job FORCE INDEX (PRIMARY) SET
    queue = $1, task = $2, spec_rest = $3, created_at = $4, due_at = $5, expires_at = $6, ttl_us = $7, keep_us
    = $8, window_until = $9, payload = $10
WHERE seq IN $seqs;
