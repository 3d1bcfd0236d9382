-- The first lease to end, not the last: claims, by their `until`, are the index over leases.
SELECT min(lease_until) FROM taskweave_job WHERE seq IN $1 AND claim = $2;
