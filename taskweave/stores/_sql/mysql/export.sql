SELECT
{whole_job}
FROM taskweave_job AS job WHERE job.seq > $1 AND job.seq <= $2 ORDER BY job.seq;
