UPDATE taskweave.job SET rank_a = $1, rank_b = $2 WHERE seq = $3;
