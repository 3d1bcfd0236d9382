"""Checkpoints: one checkpointer at a time, holding the write lock, so that the log of changes stays bounded.

SQLite before 3.51.3 can lose pages when two connections checkpoint or reset the log at the same instant. FULL and
TRUNCATE take the write lock first and so exclude that; PASSIVE, which an automatic checkpoint is, does not. So
automatic checkpoints are off, and every connection that has written looks at the size of the log here.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from taskweave.stores._sqlite.connection import StoreConnection
from taskweave.stores._sqlite.errors import code_of

WAL_BYTES_CALM: Final = 4 << 20  # from which a maintenance makes a checkpoint
WAL_BYTES_MAX: Final = 32 << 20  # from which every write makes one
GROWTH_BEFORE_RETRY: Final = 4 << 20  # after a checkpoint that readers kept from finishing


def wal_bytes(path: str) -> int:
    try:
        return os.stat(f"{path}-wal").st_size
    except OSError:
        return 0  # there is none when no connection has written


def checkpoint_if_large(connection: StoreConnection, calm: bool) -> bool:
    """Make a checkpoint if the log has grown too large; True if it is empty now. Never raises for a lock."""
    size = wal_bytes(connection.settings.path)
    if size < max(WAL_BYTES_CALM if calm else WAL_BYTES_MAX, connection.checkpoint_from):
        return False
    done = checkpoint(connection)
    connection.checkpoint_from = 0 if done else size + GROWTH_BEFORE_RETRY
    return done


def checkpoint(connection: StoreConnection) -> bool:
    """Write the log into the file and cut it to nothing; False if a reader or a writer was in the way."""
    try:
        busy, _, _ = sqlite3.Connection.execute(connection, "PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if code_of(error) != sqlite3.SQLITE_LOCKED and code_of(error) != sqlite3.SQLITE_BUSY:
            raise
        return False
    return not busy
