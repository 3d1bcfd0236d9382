UPDATE taskweave_meta SET rerank_after = $1;
