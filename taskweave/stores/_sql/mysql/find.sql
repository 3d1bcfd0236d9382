SELECT
{whole_job}
FROM taskweave_job AS job
WHERE job.seq < $1 AND job.state IN $2 AND ($3 IS NULL OR job.queue = $3) AND ($4 IS NULL OR job.task = $4)
ORDER BY job.seq DESC LIMIT $5;
