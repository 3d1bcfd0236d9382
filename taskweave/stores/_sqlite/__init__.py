"""The SQLite store's verbs as plain functions on a sqlite3.Connection, one file for each family."""
