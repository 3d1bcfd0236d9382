UPDATE meta SET aging_us = ?, rerank_after = CASE WHEN jobs > 0 THEN 0 END;
