-- leap $2: run again after the last one found, until there is none
SELECT task FROM taskweave_job FORCE INDEX (job_ready)
WHERE ready = 1 AND queue = $1 AND task > $2 ORDER BY task LIMIT 1;
