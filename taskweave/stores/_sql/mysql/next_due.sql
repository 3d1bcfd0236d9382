SELECT min(head) FROM (
    SELECT (
        SELECT job.run_at FROM taskweave_job AS job FORCE INDEX (job_due)
        WHERE job.waiting = 1 AND job.queue = wanted.queue ORDER BY job.run_at LIMIT 1
    ) AS head
    FROM JSON_TABLE(
        $1:json, '$[*]' COLUMNS (queue VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$')
    ) AS wanted
) AS heads;
