UPDATE taskweave.job SET state = 1 WHERE seq = ANY($1::bigint[]);
