UPDATE taskweave_job FORCE INDEX (PRIMARY) SET
    state = 3, claim = NULL, lease_until = NULL, cancel = NULL, progress = NULL, settled_fence = $1,
    settled_digest = $2, finished_at = $3, chore = $4, chore_at = $5, prune_at = $6, unique_key = $7,
    result = $8
WHERE seq IN $seqs;
