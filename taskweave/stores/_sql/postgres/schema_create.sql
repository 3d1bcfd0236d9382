CREATE SCHEMA taskweave;
