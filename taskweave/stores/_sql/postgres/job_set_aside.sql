UPDATE taskweave.job SET aside = 1 WHERE seq = ANY($1::bigint[]);
