SELECT table_name, index_name, group_concat(column_name ORDER BY seq_in_index SEPARATOR ', '), min(non_unique)
FROM information_schema.statistics
WHERE table_schema = database() AND table_name IN ('taskweave_meta', 'taskweave_pause', 'taskweave_claim', 'taskweave_job')
GROUP BY table_name, index_name;
