WITH RECURSIVE lane (task) AS (
    (
        SELECT job.task FROM taskweave.job
        WHERE job.state = 1 AND job.aside = 0 AND job.queue = $1 ORDER BY job.task LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT job.task FROM taskweave.job
        WHERE job.state = 1 AND job.aside = 0 AND job.queue = $1 AND job.task > lane.task ORDER BY job.task LIMIT 1
    )
    FROM lane WHERE lane.task IS NOT NULL
)
SELECT task FROM lane WHERE task IS NOT NULL;
