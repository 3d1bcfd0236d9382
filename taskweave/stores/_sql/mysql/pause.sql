INSERT INTO taskweave_pause (queue)
SELECT $1 FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM taskweave_pause WHERE queue = $1);
