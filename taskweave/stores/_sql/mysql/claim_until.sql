UPDATE taskweave_claim SET until = $1 WHERE number = $2;
