SELECT schema_version FROM taskweave_meta;
