SELECT seq FROM job WHERE state = 2 AND lease_until <= ? ORDER BY lease_until, seq LIMIT ?;
