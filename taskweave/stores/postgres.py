"""The PostgreSQL store: one schema of a database, any number of processes on any number of machines.

Rules
  one crossing  each op crosses to the driver's side as a whole (`_postgres.session`), where it is one transaction
  connections   at most `pool_max`, counted here, on the caller's side: waiting for one can be cancelled, and an op that
                never got one was not applied
  writes        cannot be cancelled once they are sent: they are shielded, with a deadline, in `_postgres.opened` and
                nowhere else. Past the deadline the answer is StoreUnavailable with applied="unknown", and the op is to
                be resent as it was; the server's own time limits end before, so nothing of it stays behind
  store time    is the server's clock, one reading for each op
  wake-ups      one connection of the pool says and hears what changed (`_postgres.notices`); listeners in this process
                are told at once
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from math import inf
from threading import Lock
from typing import Any, Self, TypeVar, cast

from attrs import define, evolve, field

from taskweave._bridge import open_bridge
from taskweave.abc import StoreTransaction
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Duration, Micros, span_us
from taskweave.core.verbs import Enqueue, Enqueued, Op
from taskweave.exceptions import NotOpen, StoreReadOnly
from taskweave.stores._postgres.address import checked_namespace, checked_pool, parsed
from taskweave.stores._postgres.inside import PostgresBlock, enqueue_on
from taskweave.stores._postgres.opened import Opened
from taskweave.stores._postgres.opening import Settings
from taskweave.stores._postgres.schema import schema_sql as schema_sql
from taskweave.stores._postgres.statements import statements
from taskweave.stores._server.transaction import transaction
from taskweave.stores._server.verbs import READS
from taskweave.stores.wakeups import Listener, wake_touched

A = TypeVar("A")


@define
class _Shared:
    """What the stores made from one another have in common, whatever thread they live in."""

    listeners: tuple[Listener, ...] = ()  # replaced, never changed, so that it is read without the lock
    lock: Lock = field(factory=Lock)


class PostgresTaskStore:
    """Every op is one transaction, durable when it is answered (as `synchronous_commit` says), on asyncio and trio.

    `url` is postgres://user:password@host:port/database?namespace=taskweave&pool=10 (see `_postgres.address`). A new
    namespace gets its schema, unless `create` is False. `aging` is what one step of priority is worth in waiting; it is
    kept in the store, None leaves it, 0 turns it off. At most `pool_max` (10) connections are open.

    Opening raises StoreMissing, StoreRefused, StoreUnavailable, NotAStore, SchemaTooNew, SchemaTooOld; ops raise
    StoreError and InvalidInput. It works behind PgBouncer in transaction mode, without wake-ups then.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str | None = None,
        aging: Duration | None = None,
        create: bool = True,
        read_only: bool = False,
        pool_max: int | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        address = parsed(url)
        if namespace is not None:
            address = evolve(address, namespace=checked_namespace(namespace))
        if pool_max is not None:
            address = evolve(address, pool_max=checked_pool(pool_max))
        self._settings = Settings(
            address=address,
            create=create,
            read_only=read_only,
            aging_us=None if aging is None else span_us(aging, "aging"),
            payload_bytes_max=payload_bytes_max,
        )
        self._shared = _Shared()
        self._opened: Opened | None = None
        self._exits: AsyncExitStack | None = None

    @property
    def url(self) -> str:
        return self._settings.url

    def __repr__(self) -> str:
        return f"<PostgresTaskStore at {self.url}>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            bridge = await exits.enter_async_context(open_bridge())
            opened = Opened(bridge, self._settings)
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
        opened = self._open()
        reading = type(op) in READS
        if not reading and self._settings.read_only:
            raise StoreReadOnly(self.url, "it was opened to be read only")
        answer = await opened.within(reading, opened.session.apply, op, at)
        if not reading:
            opened.tell()
            if self._shared.listeners:
                wake_touched(self._shared.listeners, op, answer)
        return cast(A, answer)

    async def facts(self) -> dict[str, Any]:
        """What is worth knowing about the server, the schema and the pool; spans in microseconds. Raises StoreError."""
        opened = self._open()
        return {**await opened.within(True, opened.session.facts), **opened.places.facts(), **opened.heard()}

    async def check(self) -> list[str]:
        """What is wrong with the schema or the rows, a sentence each; reads everything. Raises StoreError."""
        opened = self._open()
        return await opened.within(True, opened.session.check, deadline_s=inf)

    def transaction(self) -> AbstractAsyncContextManager[StoreTransaction]:
        """A transaction on the store's database, for SQL of the user's and for ops, at READ COMMITTED.

        It takes one of the store's connections, which has the settings of the user's role, its search_path too. It
        commits at the normal end of the block, and a commit that was begun is not cancelled; at any other end it is
        rolled back. Raises NotOpen, StoreReadOnly, StoreError.
        """
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[StoreTransaction]:
        opened = self._open()
        if self._settings.read_only:
            raise StoreReadOnly(self.url, "it was opened to be read only")
        async with opened.place(), transaction(opened.bridge, PostgresBlock(opened.session), opened.finish) as tx:
            yield tx
        opened.tell()
        for op, answer in tx.applied:
            wake_touched(self._shared.listeners, op, answer)

    async def enqueue_inside(self, tx: object, op: Enqueue) -> tuple[Enqueued, ...]:
        """Enqueue by a connection of the user's own to this database: with its commit the jobs are there, or never.

        `tx` is a connection of asyncpg or psycopg 3, or one of SQLAlchemy on either. Workers see the jobs at their
        next poll. Raises InvalidValue for anything else and for autocommit, StoreError.
        """
        settings = self._settings
        named = statements(settings.address.namespace)
        return await enqueue_on(tx, named, op, settings.payload_bytes_max, self.url)

    async def drop(self) -> None:
        """Remove everything of this namespace, jobs and schema. Raises StoreError."""
        opened = self._open()
        await opened.within(False, opened.session.drop)

    def another(self) -> PostgresTaskStore:
        """A store on the same namespace, for another thread or event loop."""
        store = PostgresTaskStore.__new__(PostgresTaskStore)
        # An open store has told the schema of its aging; telling it again could undo what an operator said since.
        opened = self._opened is not None
        store._settings = evolve(self._settings, aging_us=None, create=False) if opened else self._settings
        store._shared = self._shared
        store._opened = store._exits = None
        return store

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[Listener]:
        """Wake-ups for these queues, in the loop that enters it; for the ends of jobs, when none is given."""
        return self._listening(queues)

    @asynccontextmanager
    async def _listening(self, queues: Collection[str]) -> AsyncGenerator[Listener]:
        opened, shared = self._open(), self._shared
        listener = Listener(queues)
        with shared.lock:
            shared.listeners = (*shared.listeners, listener)
        await opened.hear(listener)
        try:
            yield listener
        finally:
            await opened.ignore(listener)
            with shared.lock:
                shared.listeners = tuple([other for other in shared.listeners if other is not listener])

    def _open(self) -> Opened:
        if self._opened is None:
            raise NotOpen("store")
        return self._opened
