DELETE FROM taskweave.pause WHERE queue = $1;
