SELECT seq, spec_rest, run_at FROM taskweave_job WHERE seq > $1 ORDER BY seq LIMIT $2 FOR UPDATE;
