INSERT INTO taskweave.claim (claim_id, member, until, seqs) VALUES ($1, $2, $3, $4)
ON CONFLICT (claim_id) DO UPDATE SET member = excluded.member, until = excluded.until, seqs = excluded.seqs
RETURNING number;
