SELECT trigger_name, event_object_table FROM information_schema.triggers
WHERE event_object_schema = database()
    AND event_object_table IN ('taskweave_meta', 'taskweave_pause', 'taskweave_claim', 'taskweave_job');
