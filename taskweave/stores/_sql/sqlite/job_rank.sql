UPDATE job SET rank_a = ?, rank_b = ? WHERE seq = ?;
