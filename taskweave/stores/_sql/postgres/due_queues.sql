WITH RECURSIVE line (queue) AS (
    (SELECT job.queue FROM taskweave.job WHERE job.state = 0 ORDER BY job.queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT job.queue FROM taskweave.job
        WHERE job.state = 0 AND job.queue > line.queue ORDER BY job.queue LIMIT 1
    )
    FROM line WHERE line.queue IS NOT NULL
)
SELECT queue FROM line WHERE queue IS NOT NULL;
