SELECT
    current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
    current_setting('full_page_writes'), pg_is_in_recovery(),
    (
        SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
        WHERE pg_namespace.nspname = $1 AND pg_class.relkind = 'r'
    ),
    (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = $1),
    (SELECT count(*) FROM taskweave.job),
    current_setting('server_encoding'),
    (SELECT coalesce(sum(numbackends), 0)::bigint FROM pg_stat_database),
    current_setting('max_connections')::bigint;
