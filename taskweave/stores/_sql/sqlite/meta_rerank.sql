UPDATE meta SET rerank_after = ?;
