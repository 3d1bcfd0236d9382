SELECT task FROM job WHERE state = 1 AND aside = 0 AND queue = ? AND task > ? ORDER BY task LIMIT 1;
