SELECT 1 FROM job WHERE state = 1 AND aside = 0 AND queue = ? AND task = ? AND fragile = ? LIMIT 1;
