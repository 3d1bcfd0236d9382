SELECT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace WHERE pg_namespace.nspname = $1
    UNION ALL
    SELECT FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pg_proc.pronamespace WHERE pg_namespace.nspname = $1
) OR NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1);
