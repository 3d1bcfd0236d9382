SELECT
    seq, fragile, rank_a, rank_b, aside, cancel_asked, claim, lease_until, finished_at, chore, chore_at, prune_at
FROM job ORDER BY seq;
