UPDATE meta SET floor = ?;
