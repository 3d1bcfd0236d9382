UPDATE meta SET aging_us = ?, rerank_after = 0;
