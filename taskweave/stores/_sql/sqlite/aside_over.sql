SELECT 1 FROM job WHERE aside = 1 AND queue = ? AND expires_at > ? LIMIT 1;
