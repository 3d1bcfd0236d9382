UPDATE taskweave_job SET aside = 1 WHERE seq IN $1;
