-- Successes are found by their chores, and sorted: an index in the order of their ends would cost each of them more.
SELECT STRAIGHT_JOIN job.finished_at, job.seq
FROM (
    (
        SELECT finished_at, seq FROM taskweave_job FORCE INDEX (job_bad_end)
        WHERE $1 <> 3 AND bad_end = $1 AND finished_at <= $2 AND (window_until IS NULL OR window_until <= $3)
        ORDER BY finished_at, seq LIMIT $4
    )
    UNION ALL
    (
        SELECT finished_at, seq FROM taskweave_job FORCE INDEX (job_agenda)
        WHERE $1 = 3 AND agenda IN (0, 1) AND ended_as = 3 AND finished_at <= $2
            AND (window_until IS NULL OR window_until <= $3)
        ORDER BY finished_at, seq LIMIT $4
    )
) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq AND job.ended_as = $1
FOR UPDATE SKIP LOCKED;
