SELECT STRAIGHT_JOIN job.id, job.fence, job.cancel
FROM taskweave_job AS job FORCE INDEX (job_agenda) JOIN taskweave_claim AS claim ON claim.number = job.agenda_at
WHERE job.agenda = 3 AND claim.member = $1
ORDER BY job.agenda_at, job.seq;
