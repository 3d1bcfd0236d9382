SELECT id FROM taskweave.job WHERE id = ANY($1::text[]);
