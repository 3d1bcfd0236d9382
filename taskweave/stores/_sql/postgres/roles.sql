-- Roles with no right too many. Run it in the store's database, after the schema is there (taskweave store init, or
-- the script of taskweave store sql), as a user who may create roles; and again after each migration. What it grants
-- is named here, nothing is granted for what may come later.
--
--   taskweave_owner     owns the schema: migrates, pauses queues, does everything
--   taskweave_worker    runs jobs, maintains, cancels, retries, deletes, restores; changes no table, pauses no queue
--   taskweave_producer  enqueues, and reads results; starts, changes and removes nothing. A job that others hold the
--                       unique key of is left alone: on_conflict="replace" needs taskweave_worker
--   taskweave_reader    looks
--
-- Give one of them to each user that logs in: GRANT taskweave_worker TO alice;
DO $$
DECLARE
    v_name text;
    v_routine regprocedure;
BEGIN
    FOREACH v_name IN ARRAY ARRAY['taskweave_owner', 'taskweave_worker', 'taskweave_producer', 'taskweave_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_name);
        END IF;
    END LOOP;
    FOR v_routine IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = to_regnamespace('taskweave') LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO taskweave_owner', v_routine);
    END LOOP;
END
$$;

ALTER SCHEMA taskweave OWNER TO taskweave_owner;
ALTER TABLE taskweave.meta OWNER TO taskweave_owner;
ALTER TABLE taskweave.claim OWNER TO taskweave_owner;
ALTER TABLE taskweave.pause OWNER TO taskweave_owner;
ALTER TABLE taskweave.job OWNER TO taskweave_owner;
ALTER VIEW taskweave.whole_job OWNER TO taskweave_owner;

REVOKE ALL ON SCHEMA taskweave FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA taskweave FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA taskweave FROM PUBLIC;

GRANT USAGE ON SCHEMA taskweave TO taskweave_worker, taskweave_producer, taskweave_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA taskweave TO taskweave_worker, taskweave_producer, taskweave_reader;

GRANT INSERT, UPDATE, DELETE ON taskweave.job, taskweave.claim TO taskweave_worker;
GRANT UPDATE ON taskweave.whole_job TO taskweave_worker;
GRANT UPDATE (floor, aging_us, rerank_after) ON taskweave.meta TO taskweave_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA taskweave TO taskweave_worker;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA taskweave TO taskweave_worker;

-- A unique key is looked up with a lock, and a lapsed one is taken over: that is the one column to be changed.
GRANT INSERT, UPDATE (unique_key) ON taskweave.job TO taskweave_producer;
GRANT UPDATE (unique_key) ON taskweave.whole_job TO taskweave_producer;
GRANT USAGE ON SEQUENCE taskweave.job_seq_seq TO taskweave_producer;
GRANT EXECUTE ON FUNCTION taskweave.enqueue TO taskweave_producer;
