SELECT
    current_setting('server_version_num')::integer AS server,
    current_setting('server_encoding') AS encoding,
    pg_backend_pid() AS pid,
    EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS has_schema,
    ARRAY(
        SELECT pg_class.relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
        WHERE pg_namespace.nspname = $1 AND pg_class.relname = ANY($2::text[]) ORDER BY pg_class.relname
    ) AS relations,
    (
        SELECT pg_class.relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
        WHERE pg_namespace.nspname = $1 AND pg_class.relname = ANY($2::text[]) AND pg_class.relpersistence <> 'p'
        LIMIT 1
    ) AS unlogged;
