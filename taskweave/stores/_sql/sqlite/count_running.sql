SELECT queue, count(*) FROM job WHERE state = 2 AND lease_until >= 0 GROUP BY queue;
