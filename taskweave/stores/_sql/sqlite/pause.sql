INSERT OR IGNORE INTO pause (queue) VALUES (?);
