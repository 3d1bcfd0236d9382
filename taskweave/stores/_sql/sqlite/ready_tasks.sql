SELECT task, fragile FROM job
WHERE state = 1 AND aside = 0 AND queue = ? AND (task, fragile) > (?, ?)
ORDER BY task, fragile LIMIT 1;
