SELECT * FROM taskweave.whole_job ORDER BY seq;
