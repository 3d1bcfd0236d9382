UPDATE taskweave_job SET
    rank_a = $1, rank_b = $2
WHERE seq IN $seqs;
