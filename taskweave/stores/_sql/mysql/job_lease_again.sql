UPDATE taskweave_claim AS claim
STRAIGHT_JOIN JSON_TABLE(claim.seqs, '$[*]' COLUMNS (seq BIGINT PATH '$')) AS taken
STRAIGHT_JOIN taskweave_job AS job ON job.seq = taken.seq AND job.claim = claim.number AND job.lease_until < $1
SET job.lease_until = $1;
