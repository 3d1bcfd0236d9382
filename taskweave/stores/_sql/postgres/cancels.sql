SELECT job.id, job.fence, job.cancel FROM taskweave.job
WHERE
    job.cancel IS NOT NULL AND job.claim > 0
    AND $1 = (SELECT claim.member FROM taskweave.claim WHERE claim.number = job.claim);
