SELECT queue FROM job WHERE state = 0 AND queue > ? ORDER BY queue LIMIT 1;
