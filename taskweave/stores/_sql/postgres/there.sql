SELECT to_regclass('taskweave.meta') IS NOT NULL AS there;
