SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), floor, aging_us, rerank_after FROM taskweave_meta;
