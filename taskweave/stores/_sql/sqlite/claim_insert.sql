INSERT OR REPLACE INTO claim (claim_id, member, until, seqs) VALUES (?, ?, ?, ?);
