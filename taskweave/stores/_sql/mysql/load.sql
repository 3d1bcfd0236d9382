SELECT
{whole_job}
FROM taskweave_job AS job WHERE job.id IN $1;
