SELECT STRAIGHT_JOIN job.prune_at, job.seq
FROM (
    SELECT prune_at, seq FROM taskweave_job FORCE INDEX (job_agenda)
    WHERE agenda = 0 AND agenda_at <= $1 AND prune_at <= $1 ORDER BY prune_at, seq LIMIT $2
) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq AND job.agenda = 0 AND job.prune_at <= $1
FOR UPDATE SKIP LOCKED;
