SELECT seq, spec_rest, run_at FROM job WHERE seq > ? ORDER BY seq LIMIT ?;
