SELECT id, seq, fence, spec_rest, life_rest, unique_key, state
FROM job WHERE id IN (SELECT value FROM json_each(?));
