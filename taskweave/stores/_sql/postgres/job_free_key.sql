UPDATE taskweave.job SET unique_key = NULL WHERE unique_key = $1;
