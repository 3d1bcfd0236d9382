SELECT job.id, job.fence, job.life_rest FROM job CROSS JOIN claim ON claim.number = job.claim
WHERE job.cancel_asked = 1 AND claim.member = ? ORDER BY job.claim, job.seq;
