DELETE FROM taskweave_claim WHERE number = last_insert_id();
