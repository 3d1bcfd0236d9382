UPDATE taskweave.claim SET until = $1 WHERE number = $2;
