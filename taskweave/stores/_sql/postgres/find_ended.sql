SELECT * FROM taskweave.whole_job
WHERE
    seq < $1 AND state > 3 AND state = ANY($2::smallint[])
    AND ($3::text IS NULL OR queue = $3) AND ($4::text IS NULL OR task = $4)
ORDER BY seq DESC LIMIT $5;
