SELECT number, seqs FROM taskweave_claim WHERE claim_id = $1 FOR UPDATE;
