SELECT STRAIGHT_JOIN
{locked_job}
FROM (SELECT seq FROM taskweave_job WHERE seq IN $1 ORDER BY seq LIMIT 1000000) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq
FOR UPDATE;
