SELECT * FROM whole_job WHERE unique_key IS NOT NULL;
