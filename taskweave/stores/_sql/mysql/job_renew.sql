-- A lease may also become shorter; the derived table is read without locks, and is empty but then.
UPDATE (
    SELECT DISTINCT claim.number
    FROM taskweave_job AS job STRAIGHT_JOIN taskweave_claim AS claim ON claim.number = job.claim
    WHERE job.seq IN $2 AND claim.until > $1 LIMIT 1000000
) AS longer
STRAIGHT_JOIN taskweave_claim AS shortened FORCE INDEX (PRIMARY) ON shortened.number = longer.number
SET shortened.until = $1;
UPDATE taskweave_job FORCE INDEX (PRIMARY) SET lease_until = $1 WHERE seq IN $2;
