INSERT INTO taskweave_claim (claim_id, member, until, seqs) VALUES ($1, $2, $3, $4);
UPDATE taskweave_job SET
    state = 2, attempt = attempt + 1, fence = fence + 1, claim = last_insert_id(), lease_until = $3, started_at = $5
WHERE seq IN $6;
