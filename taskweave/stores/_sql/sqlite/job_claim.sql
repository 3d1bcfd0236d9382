UPDATE job SET state = 2, attempt = attempt + 1, fence = fence + 1, claim = ?, lease_until = ?, started_at = ?
WHERE seq IN (SELECT value FROM json_each(?));
