UPDATE taskweave.job SET lease_until = $1 WHERE state = 2 AND lease_until < $1;
