INSERT INTO taskweave.pause (queue) VALUES ($1) ON CONFLICT DO NOTHING;
