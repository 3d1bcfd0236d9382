"""An open store, on the side of the loop that uses it: places in the pool, deadlines, the shield of writes, hints."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from threading import Lock
from typing import Any, Final, TypeVar

import anyio
from attrs import define, field, frozen

from taskweave._bridge import Bridge
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Micros
from taskweave.exceptions import StoreUnavailable
from taskweave.stores._mysql.address import Address
from taskweave.stores._mysql.opening import open_session
from taskweave.stores._mysql.session import Session
from taskweave.stores.wakeups import Listener

T = TypeVar("T")

CALL_DEADLINE_S: Final = 10.0
CLOSE_DEADLINE_S: Final = 5.0


@frozen
class Settings:
    """What a store is opened with."""

    address: Address
    create: bool = True
    read_only: bool = False
    aging_us: Micros | None = None  # None: as the schema has it; 0: none
    payload_bytes_max: int = PAYLOAD_BYTES_MAX


@define
class PoolUse:
    """How the connections of a store were shared: times in microseconds."""

    pool_max: int
    waits: int = 0  # ops that had to wait for a connection
    waited_us: int = 0
    waiting: int = 0  # ops that wait now
    used: int = 0  # ops that have one now
    used_most: int = 0
    slots: anyio.Semaphore = field(init=False)
    transactions: anyio.Semaphore = field(init=False)  # of the user's, which last as long as the user wants

    def facts(self) -> dict[str, int]:
        return {
            "pool_max": self.pool_max,
            "pool_used": self.used,
            "pool_used_most": self.used_most,
            "pool_waiting": self.waiting,
            "pool_waits": self.waits,
            "pool_waited_us": self.waited_us,
        }

    def __attrs_post_init__(self) -> None:
        self.slots = anyio.Semaphore(self.pool_max, fast_acquire=True)
        self.transactions = anyio.Semaphore(max(1, self.pool_max - 1), fast_acquire=True)


@define
class Listeners:
    """Those who listen to the stores made from one another, whatever thread they live in."""

    all: tuple[Listener, ...] = ()  # replaced, never changed, so that it is read without the lock
    _lock: Lock = field(factory=Lock, init=False)

    def add(self, listener: Listener) -> None:
        with self._lock:
            self.all = (*self.all, listener)

    def remove(self, listener: Listener) -> None:
        with self._lock:
            self.all = tuple(other for other in self.all if other is not listener)


class Opened:
    """An open store: its session on the driver's side, and the places in its pool on this side."""

    def __init__(self, bridge: Bridge, settings: Settings) -> None:
        self.bridge = bridge
        self.settings = settings
        self.session: Session
        self.use = PoolUse(settings.address.pool_max)
        self._is_open = False

    async def open(self) -> None:
        settings = self.settings
        with anyio.move_on_after(CALL_DEADLINE_S):
            self.session = await self.bridge.run(
                open_session,
                settings.address,
                settings.create,
                settings.read_only,
                settings.aging_us,
                settings.payload_bytes_max,
            )
            self._is_open = True
            return
        raise StoreUnavailable(settings.address.url, f"it could not be opened within {CALL_DEADLINE_S:g} s")

    async def close(self) -> None:
        if self._is_open:
            with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await self.bridge.run(self.session.pool.close)

    async def within(
        self, reading: bool, run: Callable[..., Awaitable[T]], *args: Any, deadline_s: float = CALL_DEADLINE_S
    ) -> T:
        """Run it with a connection; a write goes on whatever becomes of the caller. Raises StoreError."""
        use = self.use
        try:
            use.slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait_for_a_connection()
        use.used += 1
        use.used_most = max(use.used_most, use.used)
        try:
            return await self._bounded(reading, deadline_s, run, *args)
        finally:
            use.used -= 1
            use.slots.release()

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """A connection's place for a transaction of the user's; one place, if there are two, is left to ops."""
        use = self.use
        async with use.transactions:
            try:
                use.slots.acquire_nowait()
            except anyio.WouldBlock:
                await self._wait_for_a_connection()
            use.used += 1
            use.used_most = max(use.used_most, use.used)
            try:
                yield
            finally:
                use.used -= 1
                use.slots.release()

    async def finish(self, run: Callable[[], Awaitable[T]]) -> T:
        """The end of such a transaction, which goes on whatever becomes of the caller."""
        return await self._bounded(False, CALL_DEADLINE_S, run)

    async def _bounded(self, reading: bool, deadline_s: float, run: Callable[..., Awaitable[T]], *args: Any) -> T:
        """The one place for the shield of writes, and for the deadline of everything."""
        with anyio.move_on_after(deadline_s, shield=not reading):
            return await self.bridge.run(run, *args)
        problem = f"no answer within {deadline_s:g} s"
        raise StoreUnavailable(self.settings.address.url, problem, applied="no" if reading else "unknown")

    async def _wait_for_a_connection(self) -> None:
        use, began = self.use, anyio.current_time()
        use.waits += 1
        use.waiting += 1
        try:
            with anyio.move_on_after(CALL_DEADLINE_S):
                await use.slots.acquire()
                return
        finally:
            use.waiting -= 1
            use.waited_us += int((anyio.current_time() - began) * 1e6)
        problem = f"all {use.pool_max} connections were in use for {CALL_DEADLINE_S:g} s; raise pool_max, or ask less"
        raise StoreUnavailable(self.settings.address.url, problem)
