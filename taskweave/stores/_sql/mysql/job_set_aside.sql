UPDATE taskweave_job FORCE INDEX (PRIMARY) SET aside = 1 WHERE seq IN $1;
