SELECT * FROM whole_job ORDER BY seq;
