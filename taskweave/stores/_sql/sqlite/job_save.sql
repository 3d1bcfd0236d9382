UPDATE job SET
    state = ?, aside = 0, fragile = ?, rank_a = ?, rank_b = ?, run_at = ?, attempt = ?, fence = ?, life_rest = ?,
    claim = ?, lease_until = ?, started_at = ?, cancel_asked = ?, settled_fence = ?, settled_digest = ?,
    finished_at = ?, chore = ?, chore_at = ?, prune_at = ?, unique_key = ?, result = ?
WHERE seq = ?;
