-- Running jobs are few among many, and claims name them.
SELECT STRAIGHT_JOIN
{whole_job}
FROM (
    SELECT STRAIGHT_JOIN held.seq
    FROM taskweave_claim AS claim FORCE INDEX (claim_until)
    JOIN JSON_TABLE(claim.seqs, '$[*]' COLUMNS (seq BIGINT PATH '$')) AS taken
    JOIN taskweave_job AS held ON held.seq = taken.seq AND held.claim = claim.number
    WHERE claim.until > 0 AND held.seq < $1 AND ($3 IS NULL OR held.queue = $3) AND ($4 IS NULL OR held.task = $4)
    ORDER BY held.seq DESC LIMIT $5
) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq
ORDER BY job.seq DESC;
