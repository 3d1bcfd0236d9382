SELECT get_lock(concat('taskweave:', sha1(concat(database(), '/taskweave_'))), $1);
