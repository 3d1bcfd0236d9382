"""The verbs of stores whose database is a SQL server, written once; `turn.py` says how they speak to one."""
