UPDATE meta SET next_seq = ?, jobs = jobs + ?;
