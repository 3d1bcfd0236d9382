SELECT agenda_at, seq FROM taskweave_job FORCE INDEX (job_agenda)
WHERE agenda = 1 AND agenda_at <= $1 ORDER BY agenda_at, seq LIMIT $2
FOR UPDATE SKIP LOCKED;
