SELECT queue FROM taskweave_pause;
