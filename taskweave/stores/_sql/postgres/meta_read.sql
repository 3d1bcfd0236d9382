SELECT
    floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock_us, floor, aging_us, rerank_after
FROM taskweave.meta WHERE one = 1;
