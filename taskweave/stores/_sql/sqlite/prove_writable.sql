UPDATE meta SET floor = floor WHERE one = 0;
