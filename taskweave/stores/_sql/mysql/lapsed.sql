SELECT STRAIGHT_JOIN job.seq
FROM (
    SELECT STRAIGHT_JOIN held.lease_until, held.seq
    FROM taskweave_claim AS claim FORCE INDEX (claim_until)
    JOIN JSON_TABLE(claim.seqs, '$[*]' COLUMNS (seq BIGINT PATH '$')) AS taken
    JOIN taskweave_job AS held ON held.seq = taken.seq AND held.claim = claim.number
    WHERE claim.until <= $1 AND held.lease_until <= $1
    ORDER BY held.lease_until, held.seq LIMIT $2
) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq AND job.state = 2 AND job.lease_until <= $1
FOR UPDATE SKIP LOCKED;
