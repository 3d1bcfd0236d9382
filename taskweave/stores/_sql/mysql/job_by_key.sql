SELECT
{locked_job}
FROM taskweave_job AS job WHERE job.unique_key = $1
FOR UPDATE;
