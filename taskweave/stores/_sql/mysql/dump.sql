SELECT
{whole_job}
FROM taskweave_job AS job ORDER BY job.seq;
