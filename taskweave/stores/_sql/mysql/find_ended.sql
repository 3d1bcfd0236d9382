-- For states after success, which are rare: their seqs are sorted, not all the rows walked.
SELECT STRAIGHT_JOIN
{whole_job}
FROM (
    SELECT seq FROM taskweave_job FORCE INDEX (job_bad_end)
    WHERE bad_end IN $2 AND seq < $1 AND ($3 IS NULL OR queue = $3) AND ($4 IS NULL OR task = $4)
    ORDER BY seq DESC LIMIT $5
) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq
ORDER BY job.seq DESC;
