SELECT queue, 0, count(*), min(run_at) FROM taskweave_job FORCE INDEX (job_due) WHERE waiting = 1 GROUP BY queue
UNION ALL
SELECT queue, 1, count(*), min(run_at) FROM taskweave_job FORCE INDEX (job_ready) WHERE ready IN (1, 2) GROUP BY queue
UNION ALL
SELECT STRAIGHT_JOIN job.queue, 2, count(*), min(job.run_at)
FROM taskweave_claim AS claim
JOIN JSON_TABLE(claim.seqs, '$[*]' COLUMNS (seq BIGINT PATH '$')) AS taken
JOIN taskweave_job AS job ON job.seq = taken.seq AND job.claim = claim.number
GROUP BY job.queue
UNION ALL
SELECT queue, ended_as, count(*), NULL FROM taskweave_job FORCE INDEX (job_agenda) WHERE agenda IN (0, 1) GROUP BY queue, ended_as;
