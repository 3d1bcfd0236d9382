SELECT
{whole_job},
    job.fragile, job.rank_a, job.rank_b, job.aside, job.cancel, job.claim, job.lease_until, job.finished_at,
    job.ttl_us, job.keep_us, job.window_until,
    (
        SELECT other.id FROM taskweave_job AS other WHERE other.unique_key =
            CONVERT(json_unquote(json_extract(job.spec_rest, '$.unique[0]')) USING utf8mb4) COLLATE utf8mb4_nopad_bin
    ),
    job.chore, job.chore_at, job.prune_at
FROM taskweave_job AS job WHERE job.seq > $1 ORDER BY job.seq LIMIT $2;
