DELETE FROM taskweave_pause WHERE queue = $1;
