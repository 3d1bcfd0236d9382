-- The end of plain successes without reading them: what core.life and rows.chores say of one with a result.
UPDATE taskweave_job FORCE INDEX (job_id) SET
    state = 3, claim = NULL, lease_until = NULL, cancel = NULL, progress = NULL, settled_fence = fence,
    settled_digest = $3, finished_at = $1, chore = 0, chore_at = $1 + ttl_us,
    prune_at = greatest($1 + keep_us, $1 + ttl_us, coalesce(window_until, 0)),
    unique_key = CASE WHEN window_until > $1 THEN unique_key END, result = $5
WHERE id IN $4 AND fence = $2 AND state = 2;
