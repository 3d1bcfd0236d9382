SELECT seq, octet_length(payload) + coalesce(octet_length(result), 0) FROM taskweave.job
WHERE seq > $1 ORDER BY seq LIMIT $2;
