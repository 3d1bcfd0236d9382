SELECT seq FROM job WHERE state = 2 AND lease_until >= 0;
