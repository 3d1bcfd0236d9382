DELETE FROM taskweave_claim WHERE number = $1;
