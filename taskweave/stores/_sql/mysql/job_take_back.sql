UPDATE taskweave_job FORCE INDEX (job_ready) SET aside = 0
WHERE ready = 2 AND queue IN $1 AND expires_at > $2;
