SELECT STRAIGHT_JOIN
    job.id, job.seq, job.fence, job.state, job.ttl_us, job.keep_us, job.window_until, job.unique_key,
    job.settled_fence, job.settled_digest
FROM (SELECT seq FROM taskweave_job WHERE id IN $1 ORDER BY seq LIMIT 1000000) AS wanted
JOIN taskweave_job AS job ON job.seq = wanted.seq
FOR UPDATE;
