"""How arguments and results become bytes and back; nothing here knows of jobs, stores or loops."""
