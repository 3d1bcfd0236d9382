SELECT seq FROM taskweave_job FORCE INDEX (job_agenda)
WHERE agenda = 2 AND agenda_at <= $1 ORDER BY agenda_at, seq LIMIT $2
FOR UPDATE SKIP LOCKED;
