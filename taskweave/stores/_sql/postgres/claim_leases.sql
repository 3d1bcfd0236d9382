SELECT max(lease_until) FROM taskweave.job WHERE seq = ANY($1::bigint[]) AND claim = $2;
