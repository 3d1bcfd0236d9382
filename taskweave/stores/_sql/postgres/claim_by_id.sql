SELECT number, seqs FROM taskweave.claim WHERE claim_id = $1;
