SELECT max(lease_until) FROM job WHERE seq IN (SELECT value FROM json_each(?)) AND claim = ?;
