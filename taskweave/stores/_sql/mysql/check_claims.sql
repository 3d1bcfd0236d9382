-- Claims are the index over leases: each running job is in its claim, which is looked at before that lease ends.
SELECT job.id, claim.claim_id, coalesce(claim.until > job.lease_until, FALSE)
FROM taskweave_job AS job LEFT JOIN taskweave_claim AS claim ON claim.number = job.claim
WHERE job.state = 2 AND (
    claim.number IS NULL OR claim.until > job.lease_until OR NOT json_contains(claim.seqs, CAST(job.seq AS CHAR))
)
LIMIT 100;
