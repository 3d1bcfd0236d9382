"""Verbs inside a transaction that holds the user's SQL too: one of ours (`ctx.transaction`), or one of the user's own.

Rules
  savepoint   a verb that may meet others stands between savepoints: where two took one id or key at once, it alone is
              done again, and where it fails, the transaction is as it was before
  settings    the connections of the store are set up for its own statements; for the user's SQL a transaction of ours
              has the settings that the user's role has on this database
  their own   a connection of the user's is used in the user's own task or thread, and keeps its settings
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from taskweave.abc import Record
from taskweave.core.verbs import Enqueue, Enqueued, Exchange, Op
from taskweave.exceptions import SchemaTooNew, SchemaTooOld, StoreMissing, StoreUnavailable, TaskweaveError
from taskweave.stores._postgres import hot
from taskweave.stores._postgres.driver import Connection
from taskweave.stores._postgres.errors import converted, is_driver_error, sqlstate
from taskweave.stores._postgres.link import PostgresLink
from taskweave.stores._postgres.pool import SETTINGS, Pool, closed, connect
from taskweave.stores._postgres.psycopg import AsyncPsycopgLink, PsycopgLink, converted_psycopg, state_of
from taskweave.stores._postgres.session import WRITING, Session
from taskweave.stores._postgres.statements import VERSION
from taskweave.stores._server.transaction import undone_before
from taskweave.stores._server.turn import Link, begin
from taskweave.stores._server.verbs import READS, WRITES, Verb
from taskweave.stores.inside import SQLALCHEMY, check_statement, driver_connection, ended_early, is_a, outside, refused
from taskweave.stores.wakeups import Touch, touched

A = TypeVar("A")

TRIES_MAX: Final = 8  # of a verb that meets others
TAKEN: Final = "23505"  # two took one id or key at once; the other has committed
FAILED: Final = "25P02"  # a statement before this one has failed
NOT_THERE: Final = frozenset({"42P01", "3F000"})
IDLE_MAX: Final = "60000"  # milliseconds for which a worker that does not move may keep its locks

_OF_ROLE: Final[WeakKeyDictionary[Pool, tuple[anyio.Lock, dict[str, str]]]] = WeakKeyDictionary()  # for the user's SQL

ACCEPTED: Final = f"a Connection of asyncpg or psycopg, or {SQLALCHEMY} on one of them"


class Statements(Protocol):
    """What runs SQL that has no parameters on a connection."""

    def __call__(self, sql: str, /) -> Awaitable[object]: ...


async def apply_inside(link: Link, run: Statements, op: Op[A], payload_bytes_max: int, url: str) -> A:
    """The answer to this op, in the transaction that is open. Raises the driver's errors, StoreError, InvalidInput."""
    verb = hot.exchange if type(op) is Exchange else WRITES.get(type(op)) or READS[type(op)]

    async def answered() -> Any:
        return await cast("Verb", verb)(await begin(link, None, payload_bytes_max=payload_bytes_max, url=url), op)

    return cast("A", await _between_savepoints(run, answered))


async def _between_savepoints(run: Statements, answered: Callable[[], Awaitable[A]]) -> A:
    for turn in range(TRIES_MAX):
        await run("SAVEPOINT taskweave")
        try:
            answer = await answered()
        except Exception as error:
            await run("ROLLBACK TO SAVEPOINT taskweave; RELEASE SAVEPOINT taskweave")
            if getattr(error, "sqlstate", None) != TAKEN or turn + 1 == TRIES_MAX:
                raise
        else:
            await run("RELEASE SAVEPOINT taskweave")
            return answer
    raise AssertionError("the last turn returns or raises")


# --- our own ------------------------------------------------------------------------------------------------------


class PostgresBlock:
    """A transaction on a connection of the pool; see `_server.transaction.Block`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection: Connection | None = None
        self._touched: list[Touch] = []  # what others want to know of once it is committed

    async def begin(self) -> None:
        session = self._session
        try:
            connection = self._connection = await session.pool.take()
            await connection.execute(await _begin_sql(session))
        except Exception as error:
            if is_driver_error(error):
                raise self._known(error) from error
            raise

    async def execute(self, sql: str, args: Sequence[Any]) -> int | None:
        connection, text = self._open(), check_statement(sql)
        if not args and ";" in text.rstrip().rstrip(";"):  # without parameters, the driver would run several at once
            statement: Any = await self._run(cast("Any", connection).prepare, text)
            await self._run(statement.fetch)
            status = str(statement.get_statusmsg())
        else:
            status = str(await self._run(connection.execute, text, *args))
        changed = status.rpartition(" ")[2]
        return int(changed) if changed.isdigit() else None

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Record]:
        return list(await self._run(self._open().fetch, check_statement(sql), *args))

    async def _run(self, run: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """What this method of the driver returns; an error of the user's SQL is the driver's own."""
        connection = self._open()
        try:
            answer = await run(*args)
        except Exception as error:
            if connection.is_closed() and is_driver_error(error):
                raise self._known(error) from error
            if sqlstate(error) == FAILED:
                raise undone_before(error) from error
            raise
        self._open()
        return answer

    async def apply(self, op: Op[A]) -> A:
        connection = self._open()
        try:
            answer = await self._applied(connection, op)
        except Exception as error:
            if sqlstate(error) == FAILED:
                raise undone_before(error) from error
            if is_driver_error(error):
                raise self._known(error) from error
            raise
        self._touched.append(touched(op, answer))
        return answer

    async def _applied(self, connection: Connection, op: Op[A]) -> A:
        """In one round trip where a job ends in plain success: what fails there ends the transaction anyway."""
        session = self._session
        if isinstance(op, Exchange) and (plain := hot.plain_part(op)) is not None:
            records = await connection.fetch(session.statements["exchange"], *hot.exchanged_by(op, None, plain))
            answer: Any = hot.exchanged(op, plain, records)  # an A: the op is an Exchange
            return cast("A", answer)
        link = PostgresLink(connection, session.statements)
        applied: Any = await apply_inside(link, connection.execute, op, session.payload_bytes_max, session.url)
        return cast("A", applied)

    async def commit(self) -> None:
        connection = self._open()
        try:
            status = await connection.execute("COMMIT")
        except BaseException as error:
            await self.rollback()
            if is_driver_error(error):
                raise self._known(error, committing=True) from error
            raise
        self._connection = None
        self._session.pool.give_back(connection)
        if status != "COMMIT":  # a statement had failed, and its error was caught
            raise undone_before(StoreUnavailable(self._session.url, f"the server answered {status}"))
        if self._session.notices is not None:
            for touch in self._touched:
                self._session.notices.tell(touch)

    async def rollback(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._session.pool.give_up(connection)

    def _open(self) -> Connection:
        """The connection, inside its transaction. Raises TransactionMisused, StoreUnavailable."""
        connection = self._connection
        if connection is None or connection.is_closed():
            raise StoreUnavailable(self._session.url, "the connection of the transaction broke")
        if not connection.is_in_transaction():
            raise ended_early()
        return connection

    def _known(self, error: BaseException, *, committing: bool = False) -> TaskweaveError:
        return converted(error, self._session.url, committing=committing)


async def _begin_sql(session: Session) -> str:
    """What begins a transaction for the user's SQL, in one message."""
    pool = session.pool
    if pool.pooled:  # a pooler's sessions have no settings of ours
        return WRITING
    own = _OF_ROLE.get(pool)
    if own is None:
        own = _OF_ROLE[pool] = anyio.Lock(), {}
    lock, settings = own
    async with lock:
        if not settings:
            settings.update(await _settings_of_role(session))
    return "; ".join([WRITING, *(f"SET LOCAL {name} = {_literal(name, value)}" for name, value in settings.items())])


async def _settings_of_role(session: Session) -> dict[str, str]:
    """What the store has set for its own connections, as it is without that."""
    connection = await connect(session.pool.address, pooled=True)
    try:
        shown = await connection.fetch(session.statements["settings_read"], list(SETTINGS))
    finally:
        await closed(connection)
    settings = {str(name): str(setting) for name, setting in shown}
    if settings["idle_in_transaction_session_timeout"] == "0":
        settings["idle_in_transaction_session_timeout"] = IDLE_MAX
    return settings


def _literal(name: str, value: str) -> str:
    """A setting as the server has shown it: a search path is shown as it is written."""
    quoted = value.replace("'", "''")
    return value or "''" if name == "search_path" else f"'{quoted}'"


# --- the user's own -----------------------------------------------------------------------------------------------


async def enqueue_on(
    tx: object, statements: Mapping[str, str], op: Enqueue, payload_bytes_max: int, url: str
) -> tuple[Enqueued, ...]:
    """Enqueue in the transaction of this connection. Raises InvalidValue, StoreError."""
    connection: Any = await driver_connection(tx)
    link: Link
    if is_a(connection, "asyncpg.connection.Connection", "asyncpg.pool.PoolConnectionProxy"):
        if not connection.is_in_transaction():
            raise outside(tx)
        link, run = PostgresLink(connection, statements), connection.execute
    elif is_a(connection, "psycopg.Connection", "psycopg.AsyncConnection"):
        if connection.autocommit and state_of(connection) == "IDLE":
            raise outside(tx)
        kind = AsyncPsycopgLink if is_a(connection, "psycopg.AsyncConnection") else PsycopgLink
        psycopg = kind(connection, statements)
        link, run = psycopg, psycopg.run
    else:
        raise refused(tx, ACCEPTED)

    async def enqueued() -> tuple[Enqueued, ...]:
        await _check_version(link, url)
        return await apply_inside(link, run, op, payload_bytes_max, url)

    try:
        return await enqueued()
    except Exception as error:
        if getattr(error, "sqlstate", None) == FAILED:
            raise undone_before(error) from error
        if is_driver_error(error):
            raise converted(error, url) from error
        known = converted_psycopg(error, url)
        if known is not None:
            raise known from error
        raise


async def _check_version(link: Link, url: str) -> None:
    """Raises StoreMissing where the connection leads to no store, SchemaTooNew, SchemaTooOld."""
    ((there,),) = await link.fetch("there")
    if not there:
        raise StoreMissing(url, "the database of this connection has no schema of taskweave under this namespace")
    ((version,),) = await link.fetch("version_read")
    if version > VERSION:
        raise SchemaTooNew(url, f"its schema is version {version}, this taskweave knows {VERSION}")
    if version < VERSION:
        raise SchemaTooOld(url, f"its schema is version {version}, this taskweave needs {VERSION}")
