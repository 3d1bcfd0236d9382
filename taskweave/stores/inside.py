"""What the stores share about transactions that hold the user's SQL beside taskweave's.

Rules
  one end    a transaction of ours ends with its block and nowhere else, so statements that end one are refused by their
             first word; what ends one in another way (a DDL statement on MySQL, an error of SQLite) is found after it
  their own  a connection of the user's is known by its class, not by a driver that taskweave would have to import
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from taskweave.exceptions import InvalidValue, TransactionMisused

_LEADING: Final = re.compile(r"(\s+|--[^\n]*(\n|$)|/\*.*?\*/|;)*", re.DOTALL)
_ENDS: Final = re.compile(
    r"(BEGIN|START\s+TRANSACTION|COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!(\s+(WORK|TRANSACTION))?\s+TO\b))\b",
    re.IGNORECASE,
)


def check_statement(sql: object) -> str:
    """This text of a statement, which does not begin or end a transaction. Raises InvalidValue, TransactionMisused."""
    if not isinstance(sql, str):
        raise InvalidValue("sql", sql, "the text of one statement")
    leading = _LEADING.match(sql)
    found = _ENDS.match(sql, leading.end() if leading else 0)
    if found:
        raise TransactionMisused(
            f"{found[0].upper()} would end the transaction, which ends with its block",
            "leave the block normally to commit, or raise to roll back; use SAVEPOINT inside",
        )
    return sql


def ended_early() -> TransactionMisused:
    """The error for a statement after which there is no transaction any more."""
    return TransactionMisused(
        "a statement has ended the transaction, so the job could not end with it",
        "put what ends one (DDL on MySQL, ON CONFLICT ROLLBACK on SQLite) before the block",
    )


def is_a(value: object, *names: str) -> bool:
    """Whether the value's class, or one it comes from, has one of these names: `sqlalchemy.orm.session.Session`."""
    return any(f"{each.__module__}.{each.__qualname__}" in names for each in type(value).__mro__)


def refused(tx: object, accepted: str) -> InvalidValue:
    return InvalidValue("tx", tx, accepted)


def outside(tx: object) -> InvalidValue:
    """The error for a connection on which nothing is begun: what it writes would be committed at once."""
    return InvalidValue("tx", tx, "a connection in a transaction; begin one first (it is in autocommit mode)")


class NamedRow(tuple[Any, ...]):
    """A row of a driver that gives plain tuples: by position, and by the names of its columns."""

    names: tuple[str, ...]

    def __new__(cls, values: Iterable[Any], names: tuple[str, ...]) -> NamedRow:
        row = super().__new__(cls, values)
        row.names = names
        return row

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(key)
            key = self.names.index(key)
        return super().__getitem__(key)

    def keys(self) -> tuple[str, ...]:
        return self.names


# --- SQLAlchemy ---------------------------------------------------------------------------------------------------

_ASYNC_SESSION: Final = "sqlalchemy.ext.asyncio.session.AsyncSession"
_ASYNC_CONNECTION: Final = "sqlalchemy.ext.asyncio.engine.AsyncConnection"
_SESSION: Final = "sqlalchemy.orm.session.Session"
_CONNECTION: Final = "sqlalchemy.engine.base.Connection"

_SCOPED: Final = ("sqlalchemy.orm.scoping.scoped_session", "sqlalchemy.ext.asyncio.scoping.async_scoped_session")

_ASYNC: Final = (
    *(_ASYNC_SESSION, _ASYNC_CONNECTION, _SCOPED[1], "aiosqlite.core.Connection", "asyncpg.connection.Connection"),
    *("asyncpg.pool.PoolConnectionProxy", "psycopg.AsyncConnection", "asyncmy.connection.Connection"),
)

SQLALCHEMY: Final = "an AsyncSession, AsyncConnection, Session or Connection of SQLAlchemy"


async def driver_connection(tx: Any) -> object:
    """The driver's connection under one of SQLAlchemy's, its transaction begun; anything else as it is.

    SQLAlchemy begins with its first statement, and its asyncpg dialect only then tells the server; so one is run.
    """
    if is_a(tx, *_SCOPED):
        tx = tx()
    if is_a(tx, _ASYNC_SESSION):
        tx = await tx.connection()
    elif is_a(tx, _SESSION):
        tx = tx.connection()
    if is_a(tx, _ASYNC_CONNECTION):
        await tx.exec_driver_sql("SELECT 1")
        raw: object = (await tx.get_raw_connection()).driver_connection
        return raw
    if is_a(tx, _CONNECTION):
        tx.exec_driver_sql("SELECT 1")
        return tx.connection.driver_connection
    return tx


def needs_loop(tx: object) -> bool:
    """Whether this is a connection that has to be awaited."""
    return is_a(tx, *_ASYNC)
