DROP SCHEMA taskweave;
