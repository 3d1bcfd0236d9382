SELECT seq, length(payload) + coalesce(length(result), 0) FROM taskweave_job
WHERE seq > $1 ORDER BY seq LIMIT $2;
