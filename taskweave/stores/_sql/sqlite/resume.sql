DELETE FROM pause WHERE queue = ?;
