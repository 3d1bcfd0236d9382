-- A lease may also become shorter; the derived table is read without locks, and is empty but then.
UPDATE taskweave_claim SET until = $1
WHERE number IN (
    SELECT number FROM (
        SELECT claim.number FROM taskweave_job AS job JOIN taskweave_claim AS claim ON claim.number = job.claim
        WHERE job.seq IN $2 AND claim.until > $1
    ) AS longer
);
UPDATE taskweave_job SET lease_until = $1 WHERE seq IN $2;
