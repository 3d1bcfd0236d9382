SELECT min(head.run_at)
FROM unnest($1::text[]) AS wanted (queue)
CROSS JOIN LATERAL (
    SELECT job.run_at FROM taskweave.job
    WHERE job.state = 0 AND job.queue = wanted.queue ORDER BY job.run_at, job.seq LIMIT 1
) AS head;
