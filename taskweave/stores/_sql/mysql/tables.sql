-- The names as they stand: `_` would be any character in LIKE.
SELECT table_name, engine FROM information_schema.tables
WHERE table_schema = database() AND table_name IN ('taskweave_meta', 'taskweave_pause', 'taskweave_claim', 'taskweave_job')
ORDER BY table_name;
