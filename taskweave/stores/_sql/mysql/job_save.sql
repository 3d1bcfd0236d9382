UPDATE taskweave_job FORCE INDEX (PRIMARY) SET
    aside = 0, state = $1, fragile = $2, rank_a = $3, rank_b = $4, run_at = $5, attempt = $6, fence = $7,
    life_rest = $8, cancel = $9, progress = $10, claim = $11, lease_until = $12, started_at = $13,
    settled_fence = $14, settled_digest = $15, finished_at = $16, chore = $17, chore_at = $18, prune_at = $19,
    unique_key = $20, result = $21
WHERE seq IN $seqs;
