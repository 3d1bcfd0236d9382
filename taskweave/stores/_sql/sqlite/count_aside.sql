SELECT queue, count(*), min(run_at) FROM job WHERE aside = 1 GROUP BY queue;
