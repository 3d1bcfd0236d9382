DELETE FROM taskweave.claim WHERE number = $1;
