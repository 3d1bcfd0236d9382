SELECT queue FROM pause;
