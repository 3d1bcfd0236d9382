UPDATE taskweave.meta
SET aging_us = $1, rerank_after = CASE WHEN EXISTS (SELECT FROM taskweave.job) THEN 0 END
WHERE one = 1 AND aging_us IS DISTINCT FROM $1;
