DELETE FROM taskweave.job WHERE seq = ANY($1::bigint[]);
