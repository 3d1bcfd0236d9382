UPDATE taskweave_claim SET seqs = $1 WHERE number = last_insert_id();
UPDATE taskweave_job FORCE INDEX (PRIMARY) SET
    state = 2, attempt = attempt + 1, fence = fence + 1, claim = last_insert_id(), lease_until = $2, started_at = $3
WHERE seq IN $4;
