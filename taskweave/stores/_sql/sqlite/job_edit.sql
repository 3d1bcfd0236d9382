UPDATE job SET queue = ?, task = ?, spec_rest = ?, due_at = ?, expires_at = ?, payload = ? WHERE seq = ?;
