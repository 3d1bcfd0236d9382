UPDATE taskweave.meta SET rerank_after = $1 WHERE one = 1;
