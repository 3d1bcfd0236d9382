"""The one table that turns errors of SQLite into those of taskweave, each with its cause.

A verb is one transaction that is rolled back when it fails, so `applied` is "no", but for an I/O error: there nobody
knows how far a commit came. A file that is not there is found before SQLite is asked, so what it cannot open is there.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from taskweave.exceptions import (
    InvalidValue,
    NotAStore,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)

_PRIMARY: Final = 0xFF  # the low byte of an extended result code

_TABLE: Final[dict[int, tuple[type[StoreError], str]]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailable, "another process held its lock for too long"),
    sqlite3.SQLITE_LOCKED: (StoreUnavailable, "it is locked by another connection"),
    sqlite3.SQLITE_PROTOCOL: (StoreUnavailable, "its lock could not be taken"),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "reading or writing the file failed"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailable, "there is not enough memory"),
    sqlite3.SQLITE_FULL: (StoreFull, "the disk or the file's page bound is full"),
    sqlite3.SQLITE_READONLY: (StoreReadOnly, "the file or its folder is read-only"),
    sqlite3.SQLITE_PERM: (StoreReadOnly, "access was refused"),
    sqlite3.SQLITE_CANTOPEN: (StoreReadOnly, "the file, or the -wal and -shm beside it, cannot be opened"),
    sqlite3.SQLITE_NOTADB: (NotAStore, "the file is not a SQLite database"),
    sqlite3.SQLITE_CORRUPT: (NotAStore, "the file is damaged; 'taskweave store check' says where"),
    sqlite3.SQLITE_SCHEMA: (NotAStore, "its schema was changed by someone else"),
}


def code_of(error: sqlite3.Error) -> int | None:
    """The primary result code, None where the error came from the Python module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def converted(error: sqlite3.Error, store: str) -> StoreError:
    code = code_of(error)
    kind, problem = _TABLE.get(code if code is not None else -1, (StoreError, "SQLite refused the operation"))
    if code == sqlite3.SQLITE_CANTOPEN and _out_of_files():
        kind, problem = StoreUnavailable, "this process may open no more files"
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE:
        kind, problem = StoreFull, "there is no room for the -shm file beside it"
    unknown = code == sqlite3.SQLITE_IOERR
    return kind(store, f"{problem} ({error})", applied="unknown" if unknown else "no")


def _out_of_files() -> bool:
    """Whether nothing at all can be opened: SQLite says the same of that as of a folder that cannot be written."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


@contextmanager
def translated(store: str) -> Generator[None]:
    """Within, no error of SQLite escapes. Raises StoreError, and InvalidValue for what SQLite cannot hold."""
    try:
        yield
    except sqlite3.Error as error:
        raise converted(error, store) from error
    except UnicodeEncodeError as error:
        raise InvalidValue("text", error.object, "text that UTF-8 can encode") from error
    except OverflowError as error:
        raise InvalidValue("number", str(error), "an integer of at most 64 bits") from error
