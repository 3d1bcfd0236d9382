DELETE FROM claim WHERE number = ?;
