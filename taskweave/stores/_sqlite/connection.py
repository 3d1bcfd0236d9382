"""Connections: how the file is opened, and how a verb runs on one in a single hop.

Rules
  one hop    a verb is a plain function of a connection; `StoreConnection.execute(HOP, (function,))` runs it, so that
             the driver's public execute_fetchall carries a whole transaction to its thread in one step. Without a
             thread (a simulator, a test) the function is simply called.
  locks      writers take the write lock first (BEGIN IMMEDIATE) and never upgrade a read: an upgrade cannot wait.
             Waiting is in short, even turns: SQLite's own waiting grows to 100 ms a turn and starves under load.
  WAL        wal_autocheckpoint is 0: checkpoints are made by `checkpoint.py` alone.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from time import sleep
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from attrs import evolve, frozen

from taskweave.abc import Clock
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Micros
from taskweave.exceptions import NotAStore, StoreMissing, StoreReadOnly
from taskweave.stores._sqlite.errors import code_of

T = TypeVar("T")
Synchronous: TypeAlias = Literal["NORMAL", "FULL"]

HOP: Final = "hop"  # in place of SQL: run the function that is the only parameter
TURNS_MAX: Final = 2_000  # of waiting for a lock, 1 to 5 ms each: about 8 s, less than a store call's deadline
STATEMENTS_CACHED: Final = 256
CACHE_KIB: Final = 8 * 1024
BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


@frozen
class Settings:
    """What a connection is opened with. `path` is absolute, `url` is for messages."""

    path: str
    url: str
    clock: Clock
    synchronous: Synchronous = "NORMAL"
    aging_us: Micros | None = None  # None: as the file has it; 0: none
    create: bool = True
    read_only: bool = False
    jobs_max: int | None = None
    payload_bytes_max: int = PAYLOAD_BYTES_MAX

    def again(self) -> Settings:
        """For one more connection to a file that is open already."""
        return evolve(self, aging_us=None, create=False)


class _Answer(sqlite3.Cursor):
    """What the driver takes for the cursor of a statement, and holds the answer of a function."""

    answer: object = None

    def fetchall(self) -> list[Any]:
        return [self.answer]


class StoreConnection(sqlite3.Connection):
    """A connection that knows its settings and runs functions as if they were statements."""

    settings: Settings
    file: tuple[int, int]  # which file on which device was opened
    checkpoint_from: int = 0  # bytes of WAL from which the next checkpoint is tried
    checkpoint_problem: str | None = None  # why the last one failed

    def execute(self, sql: str, parameters: Iterable[Any] = (), /) -> sqlite3.Cursor:  # type: ignore[override]
        if sql is not HOP:
            return super().execute(sql, parameters)  # type: ignore[arg-type]  # typeshed wants its own alias
        (function,) = parameters
        answer = _Answer(self)
        answer.answer = function(self)
        return answer


def patiently(attempt: Callable[[], T]) -> T:
    """Return what the attempt returns, trying again while another connection holds the lock; then raise its error."""
    for turn in range(TURNS_MAX):
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if code_of(error) not in BUSY:
                raise
            sleep(min(0.001 + turn * 0.000_1, 0.005))
    return attempt()


def connect(settings: Settings) -> StoreConnection:
    """An open connection with every pragma set; may be used from another thread. Raises sqlite3.Error, StoreError."""
    if not settings.read_only:
        prepare_file(settings)
    elif not Path(settings.path).exists():
        raise StoreMissing(settings.url, "there is no such file")
    mode = "ro" if settings.read_only else "rw"
    connection = sqlite3.connect(
        f"file:{quote(settings.path)}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_CACHED,
        factory=StoreConnection,
    )
    try:
        connection.settings = settings
        connection.file = _identity(settings)
        patiently(lambda: _set_pragmas(connection, settings))
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(settings: Settings) -> tuple[int, int]:
    try:
        status = os.stat(settings.path)
    except FileNotFoundError as error:
        raise StoreMissing(settings.url, "its file was removed while it was open") from error
    return status.st_dev, status.st_ino


def see_file(connection: StoreConnection) -> None:
    """Refuse to write into a file that has no name any more: nobody would ever find it. Raises StoreMissing.

    Without this, removing or replacing the file leaves its workers deaf and its clients writing into nothing.
    """
    if _identity(connection.settings) != connection.file:
        raise StoreMissing(connection.settings.url, "its file was replaced by another while it was open")


def _set_pragmas(connection: StoreConnection, settings: Settings) -> None:
    connection.execute(f"PRAGMA synchronous={'FULL' if settings.synchronous == 'FULL' else 'NORMAL'}")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA trusted_schema=OFF")


def prepare_file(settings: Settings) -> None:
    """See that the file may be opened: a new one gets mode 0600, a link in its place is refused.

    Only the last component is looked at: a linked folder is the administrator's business, a linked file is how
    another user of a shared folder has ours written elsewhere.
    """
    path = Path(settings.path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        mode = None
    except NotADirectoryError as error:
        raise StoreMissing(settings.url, f"{path.parent} is not a folder") from error
    if mode is not None:
        if stat.S_ISLNK(mode):
            raise NotAStore(settings.url, "it is a symbolic link; give the file that it points to")
        if not stat.S_ISREG(mode):
            raise NotAStore(settings.url, "it is not a regular file")
        return
    if not settings.create:
        raise StoreMissing(settings.url, "there is no such file")
    if not path.parent.is_dir():
        raise StoreMissing(settings.url, f"the folder {path.parent} does not exist; make it first")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600))
    except FileExistsError:
        return  # another process was quicker
    except OSError as error:
        raise StoreReadOnly(settings.url, f"the file cannot be made ({error.strerror})") from error
