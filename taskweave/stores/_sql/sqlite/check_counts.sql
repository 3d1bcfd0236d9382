SELECT count(*), max(seq), (SELECT next_seq FROM meta), (SELECT jobs FROM meta) FROM job;
