SELECT number, seqs, until FROM taskweave_claim FORCE INDEX (claim_until)
WHERE until <= $1 ORDER BY until, number LIMIT $2
FOR UPDATE SKIP LOCKED;
