SELECT job.id, job.fence, job.cancel
FROM taskweave.job JOIN taskweave.claim ON claim.number = job.claim
WHERE job.cancel IS NOT NULL AND claim.member = $1 ORDER BY job.seq;
