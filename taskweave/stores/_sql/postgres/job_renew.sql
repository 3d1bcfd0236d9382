UPDATE taskweave.job SET lease_until = $1 WHERE seq = ANY($2::bigint[]);
