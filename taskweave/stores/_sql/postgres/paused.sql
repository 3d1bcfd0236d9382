SELECT queue FROM taskweave.pause;
