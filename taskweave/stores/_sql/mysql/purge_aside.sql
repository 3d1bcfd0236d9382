SELECT STRAIGHT_JOIN job.run_at, job.seq
FROM (
    SELECT run_at, seq FROM taskweave_job FORCE INDEX (job_ready) WHERE ready = 2 AND queue = $1
    ORDER BY run_at, seq LIMIT $2
) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq AND job.ready = 2
FOR UPDATE SKIP LOCKED;
