"""Verbs inside a transaction that holds the user's SQL too: one of ours (`ctx.transaction`), or one of the user's own.

Rules
  savepoint   a verb that may meet others stands between savepoints: where two took one id or key at once, it alone is
              done again, and where it fails, the transaction is as it was before. After a deadlock there is no
              transaction left: the server has undone all of it
  DDL         commits what was written before it, so it is refused before it is sent
  settings    a transaction of ours has the settings of the store's connections: READ COMMITTED, UTC, strict, at most
              9.5 seconds for one statement
  their own   a connection of the user's is used in the user's own task or thread, one statement to a text, and keeps
              its settings; it must speak utf8mb4, since ids and payloads do
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

from taskweave.abc import Record
from taskweave.core.verbs import Enqueue, Enqueued, Exchange, Op
from taskweave.exceptions import (
    InvalidValue,
    SchemaTooNew,
    SchemaTooOld,
    StoreMissing,
    StoreUnavailable,
    TaskweaveError,
    TransactionMisused,
)
from taskweave.stores._mysql.driver import Connection, asyncmy, errors
from taskweave.stores._mysql.errors import converted, errno, is_driver_error
from taskweave.stores._mysql.link import MySQLLink
from taskweave.stores._mysql.pool import is_mariadb
from taskweave.stores._mysql.session import WRITING, Session
from taskweave.stores._mysql.statements import COLLATION, COLLATION_OF_MYSQL, VERSION, statements
from taskweave.stores._server.turn import begin
from taskweave.stores._server.verbs import READS, WRITES
from taskweave.stores.inside import (
    SQLALCHEMY,
    NamedRow,
    check_statement,
    driver_connection,
    ended_early,
    is_a,
    outside,
    refused,
)

A = TypeVar("A")

TRIES_MAX: Final = 8  # of a verb that meets others
TAKEN: Final = 1062  # two took one id or key at once; the other has committed
DEADLOCK: Final = 1213
NO_TABLE: Final = 1146
CHARSET: Final = "utf8mb4"

ACCEPTED: Final = f"a Connection of asyncmy or PyMySQL, or {SQLALCHEMY} on one of them"

_COMMITS: Final = re.compile(  # what commits by itself, as the manuals of MariaDB and MySQL list it
    r"(?:\s+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*(?!!).*?\*/)*"
    r"(ALTER|ANALYZE|CACHE|CHANGE|CHECK|CREATE(?!\s+TEMPORARY)|DROP(?!\s+TEMPORARY)|FLUSH|GRANT|INSTALL|LOCK|OPTIMIZE"
    r"|RENAME|REPAIR|RESET|REVOKE|TRUNCATE|UNINSTALL|UNLOCK|SET\s+(?:SESSION\s+|@@(?:session\.)?)?autocommit)\b",
    re.IGNORECASE | re.DOTALL,
)


def check_no_commit(sql: object) -> str:
    """This text of a statement, which leaves the transaction open. Raises InvalidValue, TransactionMisused."""
    text = check_statement(sql)
    found = _COMMITS.match(text)
    if found:
        raise TransactionMisused(
            f"{found[1].upper()} would commit what was written before it",
            "run it outside of the transaction",
        )
    return text


async def apply_inside(link: MySQLLink, op: Op[A], payload_bytes_max: int, url: str) -> A:
    """The answer to this op, in the transaction that is open. Raises the driver's errors, StoreError, InvalidInput."""
    verb = WRITES.get(type(op)) or READS[type(op)]

    async def answered() -> Any:
        turn = link.turn = await begin(link, None, payload_bytes_max=payload_bytes_max, url=url)
        answer = await verb(turn, op)
        await link._send(())  # what waits to be sent with the next statement
        return answer

    if isinstance(op, Exchange) and not any(one.spawn for one in op.settle):
        return cast("A", await answered())  # what fails there ends the transaction anyway
    return cast("A", await _between_savepoints(link, answered))


async def _between_savepoints(link: MySQLLink, answered: Callable[[], Awaitable[A]]) -> A:
    for turn in range(TRIES_MAX):
        await link.run(b"SAVEPOINT taskweave")
        try:
            answer = await answered()
        except Exception as error:
            number = number_of(error)
            if number != DEADLOCK:
                await link.run(b"ROLLBACK TO SAVEPOINT taskweave")
                await link.run(b"RELEASE SAVEPOINT taskweave")
            if number != TAKEN or turn + 1 == TRIES_MAX:
                raise
        else:
            await link.run(b"RELEASE SAVEPOINT taskweave")
            return answer
    raise AssertionError("the last turn returns or raises")


def number_of(error: BaseException) -> int | None:
    """The number of an error of asyncmy or PyMySQL, None for any other."""
    known = as_known(error)
    return None if known is None else errno(known)


def as_known(error: BaseException) -> BaseException | None:
    """This error as one of asyncmy's, which is what `converted` knows; PyMySQL's have the same arguments."""
    if is_driver_error(error):
        return error
    if is_a(error, "pymysql.err.MySQLError"):
        known: BaseException = errors.OperationalError(*error.args)
        return known
    return None


# --- our own ------------------------------------------------------------------------------------------------------


class MySQLBlock:
    """A transaction on a connection of the pool; see `_server.transaction.Block`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection: Connection | None = None
        self._torn = False  # a statement was cancelled: the server may be at it still

    async def begin(self) -> None:
        try:
            connection = self._connection = await self._session.pool.take()
            await self._link(connection).run(WRITING)
        except BaseException as error:
            known = self._known(error)
            if known is None:
                raise
            raise known from error

    async def execute(self, sql: str, args: Sequence[Any]) -> int | None:
        cursor = await self._run(sql, args)
        return int(cursor.rowcount)

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Record]:
        cursor = await self._run(sql, args)
        names = tuple([column[0] for column in cursor.description or ()])
        return [NamedRow(row, names) for row in await cursor.fetchall()]

    async def _run(self, sql: str, args: Sequence[Any]) -> Any:
        connection, text = self._open(), check_no_commit(sql)
        cursor: Any = cast("Any", connection).cursor()
        try:
            await cursor.execute(text, args or None)
        except Exception as error:
            known = self._known(error)
            if known is not None and (not connection.connected or errno(error) == DEADLOCK):
                raise known from error
            raise
        except BaseException:
            self._torn = True
            raise
        self._open()
        return cursor

    async def apply(self, op: Op[A]) -> A:
        connection, session = self._open(), self._session
        try:
            return await apply_inside(self._link(connection), op, session.payload_bytes_max, session.url)
        except BaseException as error:
            known = self._known(error)
            if known is None:
                raise
            raise known from error

    async def commit(self) -> None:
        connection = self._open()
        try:
            await self._link(connection).run(b"COMMIT")
        except BaseException as error:
            known = self._known(error, committing=True)
            await self.rollback()
            if known is None:
                raise
            raise known from error
        self._connection = None
        self._session.pool.give_back(connection)

    async def rollback(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._session.pool.give_up(connection, cancelled=self._torn)

    def _link(self, connection: Connection) -> MySQLLink:
        return MySQLLink(connection, self._session.statements, self._session.bytes_max, batches=True)

    def _open(self) -> Connection:
        """The connection, inside its transaction. Raises TransactionMisused, StoreUnavailable."""
        connection = self._connection
        if connection is None or not connection.connected:
            raise StoreUnavailable(self._session.url, "the connection of the transaction broke")
        if not connection.get_transaction_status():
            raise ended_early()
        return connection

    def _known(self, error: BaseException, *, committing: bool = False) -> TaskweaveError | None:
        """What an error of the driver is called here; None for any other, of which a cancellation tears a statement."""
        if is_driver_error(error):
            return converted(error, self._session.url, committing=committing)
        self._torn = self._torn or not isinstance(error, Exception)
        return None


# --- the user's own -----------------------------------------------------------------------------------------------


class ForeignLink(MySQLLink):
    """A Link over a connection of the user's, of asyncmy: one statement to a text, plain tuples as rows."""

    def __init__(self, connection: Any, namespace: str) -> None:
        collation = COLLATION if is_mariadb(connection) else COLLATION_OF_MYSQL
        super().__init__(connection, statements(namespace, collation))
        self._cursor = connection.cursor(self._plain_cursor())

    def _plain_cursor(self) -> Any:
        return asyncmy.cursors.Cursor


class PyMySQLLink(ForeignLink):
    """The same over a synchronous connection of PyMySQL; it never waits."""

    def _plain_cursor(self) -> Any:
        return sys.modules["pymysql"].cursors.Cursor

    def literal(self, value: object) -> bytes:
        if isinstance(value, str):
            text: str = cast("Any", self.connection).escape(value)
            return text.encode("utf-8")
        return super().literal(value)

    async def run(self, sql: bytes) -> Sequence[tuple[Any, ...]]:
        cursor: Any = self._cursor
        cursor.execute(sql)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        return rows


async def enqueue_on(tx: object, namespace: str, op: Enqueue, payload_bytes_max: int, url: str) -> tuple[Enqueued, ...]:
    """Enqueue in the transaction of this connection. Raises InvalidValue, StoreError."""
    connection: Any = await driver_connection(tx)
    if is_a(connection, "asyncmy.connection.Connection"):
        kind = ForeignLink
    elif is_a(connection, "pymysql.connections.Connection"):
        kind = PyMySQLLink
    else:
        raise refused(tx, ACCEPTED)
    if connection.get_autocommit() and not connection.server_status & 1:
        raise outside(tx)
    link = kind(connection, namespace)
    try:
        await _check_charset(link, tx)
        await _check_version(link, url)
        return await apply_inside(link, op, payload_bytes_max, url)
    except Exception as error:
        known = as_known(error)
        if known is None:
            raise
        raise converted(known, url) from error


async def _check_charset(link: MySQLLink, tx: object) -> None:
    """Raises InvalidValue where the server would take our texts for something else."""
    ((charset, results),) = await link.run(b"SELECT @@character_set_client, @@character_set_results")
    if charset != CHARSET or results != CHARSET:
        raise InvalidValue("tx", tx, f"a connection with charset={CHARSET!r}; this one has {charset!r}")


async def _check_version(link: MySQLLink, url: str) -> None:
    """Raises StoreMissing where the connection leads to no store, SchemaTooNew, SchemaTooOld."""
    try:
        ((version,),) = await link.fetch("version_read")
    except Exception as error:
        if number_of(error) == NO_TABLE:
            problem = "the database of this connection has no tables of taskweave under this namespace"
            raise StoreMissing(url, problem) from error
        raise
    if version > VERSION:
        raise SchemaTooNew(url, f"its schema is version {version}, this taskweave knows {VERSION}")
    if version < VERSION:
        raise SchemaTooOld(url, f"its schema is version {version}, this taskweave needs {VERSION}")
