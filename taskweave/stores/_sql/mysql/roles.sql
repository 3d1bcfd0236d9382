-- Roles with no right too many. Run it in the store's database, after its tables are there (taskweave store init, or
-- the script of taskweave store sql), as a user who may create roles and grant.
--
--   taskweave_owner     makes and changes the tables: migrates, pauses queues, does everything
--   taskweave_worker    runs jobs, maintains, cancels, retries, deletes, restores; changes no table, pauses no queue
--   taskweave_producer  enqueues, and reads results; starts, changes and removes nothing. A job that others hold the
--                       unique key of is left alone: on_conflict="replace" needs taskweave_worker
--   taskweave_reader    looks
--
-- Give one of them to each user, and make it their default, as taskweave sets no role itself. On MariaDB
--   GRANT taskweave_worker TO 'alice'@'%';
--   SET DEFAULT ROLE taskweave_worker FOR 'alice'@'%';
-- and on MySQL the second line is: SET DEFAULT ROLE taskweave_worker TO 'alice'@'%';
CREATE ROLE IF NOT EXISTS taskweave_owner;
CREATE ROLE IF NOT EXISTS taskweave_worker;
CREATE ROLE IF NOT EXISTS taskweave_producer;
CREATE ROLE IF NOT EXISTS taskweave_reader;

GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES ON taskweave_meta TO taskweave_owner;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES ON taskweave_pause TO taskweave_owner;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES ON taskweave_claim TO taskweave_owner;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES ON taskweave_job TO taskweave_owner;

GRANT SELECT, UPDATE (floor, aging_us, rerank_after) ON taskweave_meta TO taskweave_worker;
GRANT SELECT ON taskweave_pause TO taskweave_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON taskweave_claim TO taskweave_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON taskweave_job TO taskweave_worker;

GRANT SELECT ON taskweave_meta TO taskweave_producer;
GRANT SELECT ON taskweave_pause TO taskweave_producer;
GRANT SELECT ON taskweave_claim TO taskweave_producer;
GRANT SELECT, INSERT, UPDATE (unique_key) ON taskweave_job TO taskweave_producer;

GRANT SELECT ON taskweave_meta TO taskweave_reader;
GRANT SELECT ON taskweave_pause TO taskweave_reader;
GRANT SELECT ON taskweave_claim TO taskweave_reader;
GRANT SELECT ON taskweave_job TO taskweave_reader;
