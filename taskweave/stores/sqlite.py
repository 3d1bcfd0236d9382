"""The SQLite store: one file, any number of processes on one machine, no server and no configuration.

Rules
  one hop     each verb is one plain function of a connection (`_sqlite.verbs.apply`); the driver's thread runs it as a
              whole, so that a cancelled caller can never leave a transaction open
  writes      cannot be cancelled: they are shielded, with a deadline, in `apply` and nowhere else. Past the deadline
              the answer is StoreUnavailable with applied="unknown", and the op is to be resent as it was
  transactions that the user's SQL shares have a connection of their own too (`_sqlite.transaction`)
  reads       use a connection of their own, so that listing jobs never delays a worker
  wake-ups    own writes tell the listeners at once; those of other processes are seen within 10 ms (`_sqlite.watch`)
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from urllib.parse import quote, unquote

import anyio
from attrs import define, field

from taskweave._bridge import Bridge, open_bridge
from taskweave.abc import Clock, StoreTransaction
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Duration, Micros, span_us
from taskweave.core.verbs import Enqueue, Enqueued, Maintain, Op
from taskweave.exceptions import InvalidStoreUrl, InvalidValue, NotOpen, StoreReadOnly, StoreUnavailable
from taskweave.stores._sqlite.checkpoint import checkpoint_if_large
from taskweave.stores._sqlite.connection import HOP, Settings, StoreConnection, Synchronous, connect, see_file
from taskweave.stores._sqlite.errors import translated
from taskweave.stores._sqlite.inside import enqueue_on
from taskweave.stores._sqlite.inspect import facts, problems
from taskweave.stores._sqlite.schema import bring_up, only_read
from taskweave.stores._sqlite.schema import schema_sql as schema_sql
from taskweave.stores._sqlite.transaction import Transacting
from taskweave.stores._sqlite.verbs import READS, apply
from taskweave.stores._sqlite.watch import Watch
from taskweave.stores.clock import SystemClock
from taskweave.stores.inside import SQLALCHEMY, driver_connection, is_a, refused
from taskweave.stores.wakeups import Listener, wake_touched

if TYPE_CHECKING:
    import aiosqlite

A = TypeVar("A")
T = TypeVar("T")

CALL_DEADLINE_S: Final = 10.0
CLOSE_DEADLINE_S: Final = 10.0


@define
class _Shared:
    """What the stores made from one another have in common, whatever thread they live in."""

    listeners: tuple[Listener, ...] = ()  # replaced, never changed, so that it is read without the lock
    lock: Lock = field(factory=Lock)


class SQLiteTaskStore:
    """Every op is one transaction on the file, durable when it is answered (see `synchronous`), on asyncio and trio.

    `path` is a file's path or sqlite:///path. A new file is made with mode 0600, unless `create` is False. With
    `synchronous="FULL"` an answered op survives a power loss, with "NORMAL" a crash of the process or the kernel's
    orderly end. `aging` is what one step of priority is worth in waiting; it is kept in the file, None leaves it, 0
    turns it off. `jobs_max` bounds the jobs, finished ones included; the oldest finished make room for new ones.

    Opening raises StoreMissing, StoreReadOnly, NotAStore, SchemaTooNew; ops raise StoreError and InvalidInput. A file
    that is removed or replaced while it is open is not written any more (StoreMissing): nobody would find it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        synchronous: Synchronous = "NORMAL",
        aging: Duration | None = None,
        create: bool = True,
        read_only: bool = False,
        jobs_max: int | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise InvalidValue("synchronous", synchronous, "NORMAL or FULL")
        where = file_of(path)
        self._settings = Settings(
            path=os.path.abspath(where),
            url=f"sqlite:///{quote(where)}",
            clock=SystemClock() if clock is None else clock,
            synchronous=synchronous,
            aging_us=None if aging is None else span_us(aging, "aging"),
            create=create,
            read_only=read_only,
            jobs_max=jobs_max,
            payload_bytes_max=payload_bytes_max,
        )
        self._shared = _Shared()
        self._opened: _Opened | None = None
        self._exits: AsyncExitStack | None = None

    @property
    def url(self) -> str:
        return self._settings.url

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            bridge = await exits.enter_async_context(open_bridge())
            opened = _Opened(bridge, self._settings)
            exits.push_async_callback(opened.close)
            await opened.open()
            self._opened = opened
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        exits, self._exits, self._opened = self._exits, None, None
        if exits is not None:
            await exits.aclose()

    async def apply(self, op: Op[A], *, at: Micros | None = None) -> A:
        """Return the answer to this op; a write that was begun is never cancelled. Raises StoreError, InvalidInput."""
        opened = self._opened
        if opened is None:
            raise NotOpen("store")
        if type(op) in READS:
            return await opened.read(lambda connection: apply(connection, op, at))
        if self._settings.read_only:
            raise StoreReadOnly(self.url, "it was opened to be read only")
        answer = await opened.write(_Write(op, at))
        if self._shared.listeners:
            wake_touched(self._shared.listeners, op, answer)
        return cast(A, answer)

    def transaction(self) -> AbstractAsyncContextManager[StoreTransaction]:
        """A transaction on the store's file, for SQL of the user's and for ops; it keeps other writers waiting.

        It commits at the normal end of the block, and a commit that was begun is not cancelled; at any other end it
        is rolled back. Raises NotOpen, StoreReadOnly, StoreError.
        """
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[StoreTransaction]:
        opened = self._opened
        if opened is None:
            raise NotOpen("store")
        if self._settings.read_only:
            raise StoreReadOnly(self.url, "it was opened to be read only")
        async with opened.transacting.block() as tx:
            yield tx
        for op, answer in tx.applied:
            wake_touched(self._shared.listeners, op, answer)

    async def enqueue_inside(self, tx: object, op: Enqueue) -> tuple[Enqueued, ...]:
        """Enqueue by a connection of the user's own to this file: with its commit the jobs are there, or never.

        `tx` is a connection of sqlite3 or aiosqlite, or one of SQLAlchemy on either. Workers of other processes see
        the jobs within 10 ms of the commit. Raises InvalidValue for anything else, another file, and autocommit.
        """
        connection: Any = await driver_connection(tx)
        if isinstance(connection, sqlite3.Connection):
            return enqueue_on(connection, self._settings, op)
        if is_a(connection, "aiosqlite.core.Connection"):
            raw = connection._conn  # its thread runs this; the driver has no public way to run a function there
            enqueued: tuple[Enqueued, ...] = await connection._execute(enqueue_on, raw, self._settings, op)
            return enqueued
        raise refused(tx, f"a Connection of sqlite3 or aiosqlite, or {SQLALCHEMY} on one of them")

    async def facts(self) -> dict[str, Any]:
        """What is worth knowing about the file and the linked SQLite; sizes in bytes. Raises StoreError."""
        return await self._inspected(facts)

    async def check(self) -> list[str]:
        """What is wrong with the file, the schema or the rows, a sentence each; reads everything. Raises StoreError."""
        return await self._inspected(problems, deadline_s=inf)

    async def _inspected(self, look: Callable[[StoreConnection], T], deadline_s: float = CALL_DEADLINE_S) -> T:
        opened, url = self._opened, self.url
        if opened is None:
            raise NotOpen("store")

        def translate(connection: StoreConnection) -> T:
            with translated(url):
                return look(connection)

        return await opened.read(translate, deadline_s)

    def another(self) -> SQLiteTaskStore:
        """A store on the same file, for another thread or event loop; its listeners and this one's know each other."""
        store = SQLiteTaskStore(self._settings.path)
        # An open store has told the file of its aging; telling it again could undo what an operator said since. And
        # its file is there: if not, it was removed, and an empty one in its place would hide that.
        store._settings = self._settings if self._opened is None else self._settings.again()
        store._shared = self._shared
        return store

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[Listener]:
        """Wake-ups for these queues, in the loop that enters it; for the ends of jobs, when none is given."""
        return self._listening(queues)

    @asynccontextmanager
    async def _listening(self, queues: Collection[str]) -> AsyncGenerator[Listener]:
        opened, shared = self._opened, self._shared
        if opened is None:
            raise NotOpen("store")
        listener = Listener(queues)
        with shared.lock:
            shared.listeners = (*shared.listeners, listener)
        opened.watch(listener)
        try:
            yield listener
        finally:
            opened.unwatch(listener)
            with shared.lock:
                shared.listeners = tuple(other for other in shared.listeners if other is not listener)


def file_of(path: str | os.PathLike[str]) -> str:
    """The path of the file that this path or address means. Raises InvalidStoreUrl."""
    text = os.fspath(path)
    if text.startswith("sqlite:"):
        if not text.startswith("sqlite:///"):
            raise InvalidStoreUrl(text, "a file has no host; it needs three slashes")
        text = unquote(text.removeprefix("sqlite:///"))
    if not text or text.endswith("/") or not text.isprintable():
        raise InvalidStoreUrl(text, "it names no file")
    if text == ":memory:":
        raise InvalidStoreUrl(text, "SQLite in memory is no store; use memory://")
    return text


class _Write:
    """A write with the checkpoint that may follow it, as one function of the connection."""

    __slots__ = ("at", "op")

    def __init__(self, op: Op[Any], at: Micros | None) -> None:
        self.op = op
        self.at = at

    def __call__(self, connection: StoreConnection) -> Any:
        see_file(connection)
        answer = apply(connection, self.op, self.at)
        try:
            checkpoint_if_large(connection, calm=type(self.op) is Maintain)
        except sqlite3.Error as error:
            # The op is committed, and a checkpoint is not part of it: the log just stays long. The next one is tried
            # by the next op, and `facts` shows what was the matter.
            connection.checkpoint_problem = str(error)
        return answer


class _Opened:
    """The connections of an open store: one that writes, one that reads, one that watches; the latter two on demand."""

    def __init__(self, bridge: Bridge, settings: Settings) -> None:
        self.bridge = bridge
        self.settings = settings
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._opening = anyio.Lock()
        self._line: _Line | None = None
        self._given_up: list[aiosqlite.Connection] = []
        self.transacting = Transacting(self._open_line)
        self._watch: Watch | None = None
        self._watched: tuple[Listener, ...] = ()

    async def open(self) -> None:
        with anyio.CancelScope(shield=True):
            if self.settings.read_only:
                self._reader = await self.bridge.run(_connected, self.settings, bring_up)
            else:
                self._writer = await self.bridge.run(_connected, self.settings, bring_up)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            line = None if self._line is None else self._line.connection
            for connection in (*self._given_up, line, self._reader, self._writer):
                if connection is not None:
                    await self.bridge.run(connection.close)

    async def write(self, function: Callable[[StoreConnection], T]) -> T:
        """Run it on the connection that writes, whatever becomes of the caller once it has begun."""
        assert self._writer is not None
        if self._line is None:  # nobody transacts
            return await self.finish(self._writer, function)
        with anyio.move_on_after(CALL_DEADLINE_S):
            async with self.transacting.file:
                return await self.finish(self._writer, function)
        raise StoreUnavailable(self.settings.url, f"a transaction of this process held it for {CALL_DEADLINE_S:g} s")

    async def finish(self, connection: aiosqlite.Connection, function: Callable[[StoreConnection], T]) -> T:
        """Run it, whatever becomes of the caller: the one place where writes are shielded, and bounded."""
        with anyio.move_on_after(CALL_DEADLINE_S, shield=True):
            return await self.hop(connection, function)
        raise StoreUnavailable(self.settings.url, f"no answer within {CALL_DEADLINE_S:g} s", applied="unknown")

    async def read(self, function: Callable[[StoreConnection], T], deadline_s: float = CALL_DEADLINE_S) -> T:
        reader = self._reader or await self._open_reader()
        with anyio.move_on_after(deadline_s):
            return await self.hop(reader, function)
        raise StoreUnavailable(self.settings.url, f"no answer within {deadline_s:g} s")

    async def _open_reader(self) -> aiosqlite.Connection:
        async with self._opening:
            reader = self._reader
            if reader is None:
                with anyio.CancelScope(shield=True):
                    reader = await self.bridge.run(_connected, self.settings.again(), only_read)
                self._reader = reader
            assert reader is not None
            return reader

    async def _open_line(self) -> _Line:
        if self._line is None:
            with anyio.CancelScope(shield=True):
                self._line = _Line(self, await self.bridge.run(_connected, self.settings.again(), _nothing))
        assert self._line is not None
        return self._line

    def give_up(self, line: _Line) -> None:
        """Its thread may be busy for long: it is closed with the store."""
        self._line = None
        self._given_up.append(line.connection)

    async def hop(self, connection: aiosqlite.Connection, function: Callable[[StoreConnection], T]) -> T:
        run = cast("Callable[[str, tuple[Any]], Awaitable[list[T]]]", connection.execute_fetchall)
        (answer,) = await self.bridge.ask(run, HOP, (function,))
        return answer

    # --- wake-ups; called in the loop of the store ---

    def watch(self, listener: Listener) -> None:
        self._watched = (*self._watched, listener)
        if self._watch is None:
            self._watch = Watch(self.settings.again(), self._changed)

    def unwatch(self, listener: Listener) -> None:
        self._watched = tuple(other for other in self._watched if other is not listener)
        if not self._watched and self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _changed(self) -> None:
        for listener in self._watched:
            listener.wake()


class _Line:
    """The connection of the transactions; see `_sqlite.transaction.Line`."""

    def __init__(self, opened: _Opened, connection: aiosqlite.Connection) -> None:
        self.connection = connection
        self._opened = opened

    async def ask(self, function: Callable[[StoreConnection], T]) -> T:
        return await self._opened.hop(self.connection, function)

    async def finish(self, function: Callable[[StoreConnection], T]) -> T:
        return await self._opened.finish(self.connection, function)

    async def interrupt(self) -> None:
        await self._opened.bridge.run(self.connection.interrupt)

    async def give_up(self) -> None:
        self._opened.give_up(self)


def _nothing(_: StoreConnection) -> None:
    """A file that is open already needs no preparation."""


async def _connected(settings: Settings, prepare: Callable[[StoreConnection], None]) -> aiosqlite.Connection:
    """A connection in a thread of its own, prepared there. Raises StoreError.

    The driver loses its thread when a connector raises, so this one does not: it hands the error over.
    """
    import aiosqlite

    problem: list[Exception] = []

    def connector() -> sqlite3.Connection:
        try:
            with translated(settings.url):
                connection = connect(settings)
                try:
                    prepare(connection)
                except BaseException:
                    connection.close()
                    raise
                return connection
        except Exception as error:  # noqa: BLE001  # the border of a thread: raised again below, in the caller's
            problem.append(error)
            return sqlite3.connect(":memory:", check_same_thread=False)

    connection = await aiosqlite.Connection(connector, iter_chunk_size=64)
    if problem:
        await connection.close()
        raise problem[0]
    return connection
