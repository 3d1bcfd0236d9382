"""An open store on the caller's side of the bridge: who may have a connection, for how long, and what is not cancelled.

The caller's side counts the connections, so that waiting for one can be cancelled, and an op that never got one was not
applied. One of them is kept for saying and hearing what changed (`_postgres.notices`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
from attrs import define, field

from taskweave._bridge import Background, Bridge
from taskweave.exceptions import StoreUnavailable
from taskweave.stores._postgres.opening import Settings, open_session
from taskweave.stores._postgres.session import Session
from taskweave.stores.wakeups import Listener

T = TypeVar("T")

CALL_DEADLINE_S: Final = 10.0
CLOSE_DEADLINE_S: Final = 5.0


@define
class Places:
    """How the connections of a store are shared: times in microseconds."""

    most: int  # without the connection that says and hears
    waits: int = 0  # ops that had to wait for a connection
    waited_us: int = 0
    waiting: int = 0  # ops that wait now
    used: int = 0  # ops that have one now
    used_most: int = 0
    free: anyio.Semaphore = field(init=False)
    transactions: anyio.Semaphore = field(init=False)  # of the user's, which last as long as the user wants

    def __attrs_post_init__(self) -> None:
        self.free = anyio.Semaphore(self.most, fast_acquire=True)
        self.transactions = anyio.Semaphore(max(1, self.most - 1), fast_acquire=True)

    def facts(self) -> dict[str, int]:
        return {
            "pool_max": self.most,
            "pool_used": self.used,
            "pool_used_most": self.used_most,
            "pool_waiting": self.waiting,
            "pool_waits": self.waits,
            "pool_waited_us": self.waited_us,
        }

    async def take(self, url: str) -> None:
        """Return when there is one for the caller, who leaves it afterwards. Raises StoreUnavailable."""
        try:
            self.free.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait(url)
        self.used += 1
        self.used_most = max(self.used_most, self.used)

    def leave(self) -> None:
        self.used -= 1
        self.free.release()

    async def _wait(self, url: str) -> None:
        began = anyio.current_time()
        self.waits += 1
        self.waiting += 1
        try:
            with anyio.move_on_after(CALL_DEADLINE_S):
                await self.free.acquire()
                return
        finally:
            self.waiting -= 1
            self.waited_us += int((anyio.current_time() - began) * 1e6)
        problem = f"all {self.most} connections were in use for {CALL_DEADLINE_S:g} s; raise pool_max, or ask less"
        raise StoreUnavailable(url, problem)


class Opened:
    """An open store: its session on the driver's side, and the places in its pool on this side."""

    def __init__(self, bridge: Bridge, settings: Settings) -> None:
        self.bridge = bridge
        self.settings = settings
        self.session: Session
        self.places = Places(max(1, settings.address.pool_max - 1))
        self._is_open = False
        self._notices: Background | None = None

    async def open(self) -> None:
        settings = self.settings
        with anyio.move_on_after(CALL_DEADLINE_S):
            self.session = await self.bridge.run(open_session, settings)
            self._is_open = True
            return
        raise StoreUnavailable(settings.url, f"it could not be opened within {CALL_DEADLINE_S:g} s")

    async def close(self) -> None:
        if self._is_open:
            with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                if self._notices is not None and self.session.notices is not None:
                    await self.bridge.run(self.session.notices.flush)
                    await self._notices.stop()
                await self.bridge.run(self.session.pool.close)

    # --- wake-ups ---

    def tell(self) -> None:
        """The session may have something to tell others: its connection for that is there from the first time on."""
        notices = self.session.notices
        if self._notices is None and notices is not None and notices.has_work:
            self._notices = self.bridge.start(notices.run)

    async def hear(self, listener: Listener) -> None:
        if self.session.notices is not None:
            await self.bridge.run(self.session.notices.hear, listener)
            self.tell()

    async def ignore(self, listener: Listener) -> None:
        if self.session.notices is not None:
            with anyio.CancelScope(shield=True):
                await self.bridge.run(self.session.notices.ignore, listener)

    def heard(self) -> dict[str, Any]:
        notices = self.session.notices
        return {
            "wake_ups": "none: a pooler stands between" if notices is None else "none" if notices.deaf else "notify",
            "notices_said": 0 if notices is None else notices.said,
            "notices_heard": 0 if notices is None else notices.heard,
        }

    # --- ops ---

    async def within(
        self, reading: bool, run: Callable[..., Awaitable[T]], *args: Any, deadline_s: float = CALL_DEADLINE_S
    ) -> T:
        """Run it with a connection, for a bounded time; a write goes on whatever becomes of the caller."""
        await self.places.take(self.settings.url)
        try:
            if reading and not self.session.pool.idle:
                # The driver leaves noise behind where it is cancelled while it connects, so a read does not do that.
                await self._bounded(False, deadline_s, self.session.fill)
            return await self._bounded(reading, deadline_s, run, *args)
        finally:
            self.places.leave()

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """A connection's place for a transaction of the user's; one place, if there are two, is left to ops."""
        places = self.places
        async with places.transactions:
            await places.take(self.settings.url)
            try:
                yield
            finally:
                places.leave()

    async def finish(self, run: Callable[[], Awaitable[T]]) -> T:
        """The end of such a transaction, which goes on whatever becomes of the caller."""
        return await self._bounded(False, CALL_DEADLINE_S, run)

    async def _bounded(self, reading: bool, deadline_s: float, run: Callable[..., Awaitable[T]], *args: Any) -> T:
        """The one place for the shield of writes, and for the deadline of everything."""
        with anyio.move_on_after(deadline_s, shield=not reading):
            return await self.bridge.run(run, *args)
        problem = f"no answer within {deadline_s:g} s"
        raise StoreUnavailable(self.settings.url, problem, applied="no" if reading else "unknown")
