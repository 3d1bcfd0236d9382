SELECT table_name, column_name, coalesce(collation_name, '')
FROM information_schema.columns
WHERE table_schema = database() AND table_name IN ('taskweave_meta', 'taskweave_pause', 'taskweave_claim', 'taskweave_job');
