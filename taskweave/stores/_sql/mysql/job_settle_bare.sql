-- As job_settle, without a result: the next chore is to prune the row.
UPDATE taskweave_job FORCE INDEX (job_id) SET
    state = 3, claim = NULL, lease_until = NULL, cancel = NULL, progress = NULL, settled_fence = fence,
    settled_digest = $3, finished_at = $1, chore = 1, chore_at = greatest($1 + keep_us, coalesce(window_until, 0)),
    prune_at = greatest($1 + keep_us, coalesce(window_until, 0)),
    unique_key = CASE WHEN window_until > $1 THEN unique_key END
WHERE id IN $4 AND fence = $2 AND state = 2;
