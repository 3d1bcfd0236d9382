UPDATE job SET aside = 0 WHERE aside = 1 AND queue = ? AND expires_at > ?;
