SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length';
