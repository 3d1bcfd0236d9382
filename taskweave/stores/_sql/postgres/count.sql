SELECT queue, state, count(*), min(run_at) FROM taskweave.job GROUP BY queue, state;
