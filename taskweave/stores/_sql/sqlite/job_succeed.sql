UPDATE job SET
    state = 3, claim = NULL, lease_until = NULL, cancel_asked = NULL, settled_fence = ?, settled_digest = ?,
    finished_at = ?, chore = ?, chore_at = ?, prune_at = ?, result = ?
WHERE seq = ?;
