SELECT queue, state, count(*) FROM job WHERE state > 2 GROUP BY queue, state;
