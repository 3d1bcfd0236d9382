SELECT number, seqs, until FROM claim WHERE until <= ? ORDER BY until, number LIMIT ?;
