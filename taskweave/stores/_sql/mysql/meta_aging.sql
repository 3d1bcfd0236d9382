-- NULL-safe: the ranks are rewritten only when the setting is another one, and there is something to rewrite.
UPDATE taskweave_meta SET
    rerank_after = CASE WHEN EXISTS (SELECT 1 FROM taskweave_job) THEN 0 END, aging_us = $1
WHERE NOT aging_us <=> $1;
