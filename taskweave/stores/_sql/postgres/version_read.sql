SELECT schema_version FROM taskweave.meta WHERE one = 1;
