UPDATE taskweave_job SET unique_key = NULL WHERE unique_key = $1;
