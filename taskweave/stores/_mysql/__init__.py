"""What the MySQL store is made of: asyncmy, on the driver's side of the bridge, and the statements for MariaDB."""
