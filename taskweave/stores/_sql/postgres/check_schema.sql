SELECT
    'table', pg_class.relname::text, CASE pg_class.relpersistence WHEN 'p' THEN 'sound' ELSE 'unlogged' END
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_namespace.nspname = $1 AND pg_class.relkind = 'r'
UNION ALL
SELECT
    'index', pg_class.relname::text,
    CASE WHEN pg_index.indisvalid AND pg_index.indisready THEN 'sound' ELSE 'invalid; REINDEX it' END
FROM pg_index
JOIN pg_class ON pg_class.oid = pg_index.indexrelid
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_namespace.nspname = $1
UNION ALL
SELECT 'view or function', pg_class.relname::text, 'sound'
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_namespace.nspname = $1 AND pg_class.relkind = 'v'
UNION ALL
SELECT 'view or function', pg_proc.proname::text, 'sound'
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pg_proc.pronamespace WHERE pg_namespace.nspname = $1
UNION ALL
SELECT 'trigger', pg_trigger.tgname::text, 'foreign'
FROM pg_trigger
JOIN pg_class ON pg_class.oid = pg_trigger.tgrelid
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_namespace.nspname = $1 AND NOT pg_trigger.tgisinternal;
