SELECT number, seqs FROM claim WHERE claim_id = ?;
