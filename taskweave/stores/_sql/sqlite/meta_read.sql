SELECT floor, next_seq, jobs, aging_us, rerank_after FROM meta;
