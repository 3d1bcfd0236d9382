INSERT INTO taskweave_claim (claim_id, member, until, seqs) VALUES ($1, $2, $3, '[]');
