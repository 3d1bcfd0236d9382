SELECT job.claim, job.id FROM taskweave.job
WHERE job.state = 2 AND NOT EXISTS (SELECT FROM taskweave.claim WHERE claim.number = job.claim) LIMIT 100;
