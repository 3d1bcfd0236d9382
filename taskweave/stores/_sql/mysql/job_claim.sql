UPDATE taskweave_job SET
    state = 2, attempt = attempt + 1, fence = fence + 1, claim = $1, lease_until = $2, started_at = $3
WHERE seq IN $4;
