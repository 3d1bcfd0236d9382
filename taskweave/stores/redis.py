"""The Redis store: one server or cluster, any number of processes and machines; as durable as the server is set up.

Rules
  one script    each verb is one Lua script, which the server runs alone: atomic, and one round trip
  its clock     store time is the server's, read inside the script
  writes        cannot be cancelled: they are shielded, with a deadline, in `apply` and nowhere else. Past the deadline
                the answer is StoreUnavailable with applied="unknown", and the op is to be resent as it was
  its data      a marker says which dataset this is. Redis may come back empty (a flush, a failover to an empty server):
                then every op is refused, instead of an empty store being taken for an idle one
  wake-ups      scripts publish them; each listener has a connection of its own (`_redis.subscription`)

Works on Redis 6.2 and later, Valkey, and Redis Cluster (?cluster=true): all keys of a namespace are in one slot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self, TypeVar, cast

import anyio
from attrs import evolve, frozen

from taskweave._bridge import Bridge, open_bridge
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Duration, Micros, span_us
from taskweave.core.verbs import Op
from taskweave.exceptions import NotOpen, StoreReadOnly, StoreUnavailable
from taskweave.stores._redis.address import Address, address_of
from taskweave.stores._redis.check import problems
from taskweave.stores._redis.dataset import bring_up, drop_some
from taskweave.stores._redis.inspect import facts
from taskweave.stores._redis.link import Link
from taskweave.stores._redis.subscription import hear
from taskweave.stores._redis.verbs import READS, Dataset, apply
from taskweave.stores.wakeups import Listener

A = TypeVar("A")
T = TypeVar("T")

CALL_DEADLINE_S: Final = 10.0
CLOSE_DEADLINE_S: Final = 10.0
CHECK_DEADLINE_S: Final = 600.0


@frozen
class _Settings:
    address: Address
    aging_us: Micros | None
    create: bool
    read_only: bool
    payload_bytes_max: int


class RedisTaskStore:
    """Every op is one script on the server: it happens completely or not at all, on asyncio and trio.

    `url` is redis://user:password@host:port/database?namespace=taskweave (rediss:// for TLS, cluster=true for Redis
    Cluster, pool=10 connections); `namespace` is in front of every key. What an answered op survives is the server's
    setting: `facts` says it. `aging` is what one step of priority is worth in waiting; it is kept on the server, None
    leaves it, 0 turns it off.

    Opening raises StoreMissing, StoreRefused, NotAStore, SchemaTooNew, SchemaTooOld, StoreUnavailable; ops raise
    StoreError and InvalidInput. A server that loses its data while the store is open is not written any more
    (StoreMissing).
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
        self._settings = _Settings(
            address=address_of(url, namespace, pool_max),
            aging_us=None if aging is None else span_us(aging, "aging"),
            create=create,
            read_only=read_only,
            payload_bytes_max=payload_bytes_max,
        )
        self._opened: _Opened | None = None
        self._exits: AsyncExitStack | None = None

    @property
    def url(self) -> str:
        return self._settings.address.shown

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

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
        opened = self._open()
        dataset = opened.dataset
        if type(op) in READS:
            return cast(A, await opened.read(apply, dataset, op, at))
        if self._settings.read_only:
            raise StoreReadOnly(self.url, "it was opened to be read only")
        return cast(A, await opened.write(apply, dataset, op, at))

    async def facts(self) -> dict[str, Any]:
        """What is worth knowing about the server and its settings; sizes in bytes. Raises StoreError."""
        opened = self._open()
        return await opened.read(facts, opened.dataset)

    async def check(self) -> list[str]:
        """What is wrong with the rows and their indexes, a sentence each; reads everything. Raises StoreError."""
        opened = self._open()
        return await opened.read(problems, opened.dataset, deadline_s=CHECK_DEADLINE_S)

    async def drop(self) -> None:
        """Remove everything of the namespace; whoever has it open is refused from then on. Raises StoreError."""
        opened = self._open()
        if self._settings.read_only:
            raise StoreReadOnly(self.url, "it was opened to be read only")
        cursor: Any = 0
        while (cursor := await opened.write(drop_some, opened.dataset, cursor)) != b"0":
            pass

    def another(self) -> RedisTaskStore:
        """A store on the same jobs, for another thread or event loop."""
        settings = self._settings
        store = RedisTaskStore.__new__(RedisTaskStore)
        # An open store has told the server of its aging, and made its data: if that is gone now, it was lost.
        store._settings = settings if self._opened is None else evolve(settings, aging_us=None, create=False)
        store._opened = None
        store._exits = None
        return store

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[Listener]:
        """Wake-ups for these queues, in the loop that enters it; for the ends of jobs, when none is given."""
        return self._listening(queues)

    @asynccontextmanager
    async def _listening(self, queues: Collection[str]) -> AsyncGenerator[Listener]:
        opened = self._open()
        listener = Listener(queues)
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(hear, opened.bridge, opened.dataset.link, listener)
            try:
                yield listener
            except Exception as error:  # noqa: BLE001 - a task group would wrap it; it is raised below, as it is
                failed = error
            finally:
                group.cancel_scope.cancel()
        if failed is not None:
            raise failed

    def _open(self) -> _Opened:
        if self._opened is None:
            raise NotOpen("store")
        return self._opened


class _Opened:
    """The connections of an open store, and the bridge to the loop that they live on."""

    def __init__(self, bridge: Bridge, settings: _Settings) -> None:
        self.bridge = bridge
        self.settings = settings
        self.dataset = Dataset(Link(settings.address), settings.payload_bytes_max)

    async def open(self) -> None:
        settings = self.settings
        aging = settings.aging_us if not settings.read_only else None
        self.dataset.made = await self.write(bring_up, self.dataset, settings.create and not settings.read_only, aging)

    async def close(self) -> None:
        with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await self.bridge.run(self.dataset.link.close)

    async def write(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run it, whatever becomes of the caller: the one place where writes are shielded, and bounded."""
        with anyio.move_on_after(CALL_DEADLINE_S, shield=True):
            return await self.bridge.run(verb, *arguments)
        raise StoreUnavailable(
            self.settings.address.shown, f"no answer within {CALL_DEADLINE_S:g} s", applied="unknown"
        )

    async def read(self, verb: Callable[..., Awaitable[T]], *arguments: Any, deadline_s: float = CALL_DEADLINE_S) -> T:
        with anyio.move_on_after(deadline_s):
            return await self.bridge.run(verb, *arguments)
        raise StoreUnavailable(self.settings.address.shown, f"no answer within {deadline_s:g} s")
