"""Verbs inside a transaction that holds the user's SQL too: one of ours (`ctx.transaction`), or one of the user's own.

Everything here is synchronous and runs where its connection lives. A verb is still all or nothing: a savepoint stands
around it, so that a verb which fails leaves the transaction as it was.

A connection of the user's keeps its settings: what verbs need of it (rows as tuples, text as str) is set for as long
as a verb lasts. Where its module would begin a transaction with the next write (`isolation_level` is not None), one is
begun; a connection in autocommit mode is refused, because what it writes cannot be taken back.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from taskweave.core.verbs import Enqueue, Enqueued, Op
from taskweave.exceptions import InvalidValue, SchemaTooNew, SchemaTooOld, StoreMissing, StoreUnavailable
from taskweave.stores._sqlite.checkpoint import checkpoint_if_large
from taskweave.stores._sqlite.connection import Settings, StoreConnection, patiently, see_file
from taskweave.stores._sqlite.errors import translated
from taskweave.stores._sqlite.schema import VERSION, version_of
from taskweave.stores._sqlite.turn import Turn
from taskweave.stores._sqlite.verbs import READS, WRITES
from taskweave.stores.inside import check_statement, ended_early, outside

A = TypeVar("A")

_SAVEPOINT: Final = "SAVEPOINT taskweave"
_ROLLBACK: Final = "ROLLBACK TO taskweave"
_RELEASE: Final = "RELEASE taskweave"


def apply_inside(connection: sqlite3.Connection, settings: Settings, op: Op[A]) -> A:
    """Return the answer to this op, in the transaction that is open. Raises StoreError, InvalidInput."""
    verb = WRITES.get(type(op)) or READS[type(op)]
    with translated(settings.url):
        connection.execute(_SAVEPOINT)
        try:
            answer = verb(Turn(connection, None, settings), op)
        except BaseException:
            if connection.in_transaction:
                connection.execute(_ROLLBACK)
                connection.execute(_RELEASE)
            raise
        connection.execute(_RELEASE)
        return cast(A, answer)


# --- our own ------------------------------------------------------------------------------------------------------


class Block:
    """One transaction on a connection of ours; its methods run in the connection's thread."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False  # set from the loop: whoever waits for the lock need not wait any more

    def begin(self, connection: StoreConnection) -> None:
        """Take the writer's lock. Raises StoreError."""
        url = connection.settings.url

        def attempt() -> None:
            if self.given_up:
                raise StoreUnavailable(url, "the transaction was given up before it began")
            sqlite3.Connection.execute(connection, "BEGIN IMMEDIATE")

        see_file(connection)
        with translated(url):
            patiently(attempt)

    def execute(self, connection: StoreConnection, sql: str, args: Sequence[Any]) -> int | None:
        cursor = self._run(connection, sql, args)
        changed = cursor.rowcount
        cursor.close()
        return None if changed < 0 else changed

    def fetch(self, connection: StoreConnection, sql: str, args: Sequence[Any]) -> list[Any]:
        cursor = self._run(connection, sql, args)
        rows = cursor.fetchall()
        cursor.close()
        return rows

    def _run(self, connection: StoreConnection, sql: str, args: Sequence[Any]) -> sqlite3.Cursor:
        self.check(connection)
        cursor = connection.cursor()
        cursor.row_factory = sqlite3.Row
        cursor.execute(check_statement(sql), args)
        self.check(connection)
        return cursor

    def apply(self, connection: StoreConnection, op: Op[A]) -> A:
        self.check(connection)
        return apply_inside(connection, connection.settings, op)

    def check(self, connection: StoreConnection) -> None:
        """Raises TransactionMisused when a statement has ended the transaction."""
        if not connection.in_transaction:
            raise ended_early()

    def commit(self, connection: StoreConnection) -> None:
        """Raises StoreError; where it could be rolled back instead, with applied="no"."""
        self.check(connection)
        with translated(connection.settings.url):
            try:
                sqlite3.Connection.execute(connection, "COMMIT")
            except sqlite3.Error as error:
                if connection.in_transaction:
                    sqlite3.Connection.execute(connection, "ROLLBACK")
                    raise StoreUnavailable(connection.settings.url, f"the commit failed ({error})") from error
                raise
        try:
            checkpoint_if_large(connection, calm=False)
        except sqlite3.Error as error:  # the transaction is committed: as for any write
            connection.checkpoint_problem = str(error)

    def rollback(self, connection: StoreConnection) -> None:
        if connection.in_transaction:
            sqlite3.Connection.execute(connection, "ROLLBACK")


# --- the user's own -----------------------------------------------------------------------------------------------


def enqueue_on(connection: sqlite3.Connection, settings: Settings, op: Enqueue) -> tuple[Enqueued, ...]:
    """Enqueue in the transaction of this connection. Raises InvalidValue, StoreError."""
    with translated(settings.url), _as_verbs_need(connection):
        _check_file(connection, settings)
        _see_transaction(connection)
        return apply_inside(connection, settings, op)


@contextmanager
def _as_verbs_need(connection: sqlite3.Connection) -> Generator[None]:
    rows, text = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = rows, text


def _check_file(connection: sqlite3.Connection, settings: Settings) -> None:
    """Raises InvalidValue for another database, StoreMissing, SchemaTooOld, SchemaTooNew for no store that we know."""
    files = {name: file for _, name, file in connection.execute("PRAGMA database_list").fetchall()}
    file = files.get("main")
    if not file or not os.path.exists(settings.path) or not os.path.samefile(file, settings.path):
        raise InvalidValue("tx", file or ":memory:", f"a connection to {settings.path}, where the jobs are")
    version = version_of(connection)
    if not version:
        raise StoreMissing(settings.url, "it was never initialised; open the app once")
    if version > VERSION:
        raise SchemaTooNew(settings.url, f"its schema is version {version}, this taskweave knows {VERSION}")
    if version < VERSION:
        raise SchemaTooOld(settings.url, f"its schema is version {version}, this taskweave writes {VERSION}")


def _see_transaction(connection: sqlite3.Connection) -> None:
    """See that one is open, as the connection's module would before its next write. Raises InvalidValue."""
    if connection.in_transaction:
        return
    if connection.isolation_level is None or getattr(connection, "autocommit", None) is True:
        raise outside(connection)
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
