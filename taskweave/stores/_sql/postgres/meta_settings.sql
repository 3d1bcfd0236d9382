SELECT schema_version, aging_us FROM taskweave.meta WHERE one = 1;
