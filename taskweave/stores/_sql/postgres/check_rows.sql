SELECT
    whole_job.*, job.fragile, job.rank_a, job.rank_b, job.aside, job.cancel, job.claim, job.lease_until,
    job.finished_at, job.ttl_us, job.keep_us, job.window_until,
    CASE WHEN job.unique_key IS NULL AND job.spec_rest LIKE '{%"unique"%}' THEN (
        SELECT other.id FROM taskweave.job AS other
        WHERE other.unique_key = (job.spec_rest::json -> 'unique' ->> 0)
    ) END,
    job.chore, job.chore_at, job.prune_at
FROM taskweave.job JOIN taskweave.whole_job ON whole_job.seq = job.seq
WHERE job.seq > $1 ORDER BY job.seq LIMIT $2;
