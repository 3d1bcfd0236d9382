UPDATE taskweave_meta SET floor = $1;
