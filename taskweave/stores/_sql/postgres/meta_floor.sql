UPDATE taskweave.meta SET floor = $1 WHERE one = 1;
