SELECT job.id, job.fence, job.cancel FROM taskweave.job
WHERE job.cancel IS NOT NULL AND $1 = (SELECT claim.member FROM taskweave.claim WHERE claim.number = job.claim)
ORDER BY job.seq;
