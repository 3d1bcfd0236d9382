SELECT queue, count(*), min(run_at) FROM job WHERE state = 1 AND aside = 0 GROUP BY queue;
