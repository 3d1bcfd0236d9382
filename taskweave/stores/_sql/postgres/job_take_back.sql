UPDATE taskweave.job SET aside = 0 WHERE aside = 1 AND queue = ANY($1::text[]) AND expires_at > $2;
