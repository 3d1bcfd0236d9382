SELECT seq FROM taskweave_job FORCE INDEX (job_agenda)
WHERE agenda = $1 AND agenda_at <= $2 ORDER BY agenda_at, seq LIMIT $3
FOR UPDATE SKIP LOCKED;
