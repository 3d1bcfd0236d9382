SELECT number, seqs, until FROM taskweave.claim
WHERE until <= $1 ORDER BY until, number LIMIT $2 FOR UPDATE SKIP LOCKED;
