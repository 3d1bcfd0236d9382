UPDATE taskweave_job FORCE INDEX (PRIMARY) SET
    rank_a = $1, rank_b = $2
WHERE seq IN $seqs;
