SELECT
    version(), @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@global.read_only, @@max_allowed_packet,
    @@global.time_zone, @@max_connections, @@sync_binlog, @@log_bin,
    (
        SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables
        WHERE table_schema = database() AND table_name IN ('taskweave_claim', 'taskweave_job')
    ),
    (SELECT count(*) FROM taskweave_job),
    schema_version, aging_us
FROM taskweave_meta;
