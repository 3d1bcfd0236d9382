DO release_lock(concat('taskweave:', sha1(concat(database(), '/taskweave_'))));
