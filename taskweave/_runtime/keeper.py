"""Renews the leases of long runs, off the user's event loop.

Code in a task that blocks the event loop must not cost the worker its leases, so the keeper is a thread with its own
asyncio loop and its own store connection, on both runtimes. What to renew, and when, is decided by core.lease; the
keeper only carries it out, and tells the driver of what is lost and of what an operator wants cancelled. Most jobs
end before their first renewal, so the connection is opened when it is first needed.

It also sees when the user's loop does not answer, and names the task that holds it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from taskweave._bridge import poster
from taskweave.abc import Env, TaskStore
from taskweave.core.events import CancelsRequested, Event, LeasesLost
from taskweave.core.ids import MILLISECOND, SECOND, Micros
from taskweave.core.lease import LeaseBook
from taskweave.core.verbs import Claimed, Lease, Renew
from taskweave.exceptions import StoreError

BEAT_US: Final[Micros] = 500 * MILLISECOND
LAG_WARN_US: Final[Micros] = SECOND
OBEY_US: Final[Micros] = 10 * SECOND  # past its timeout by this much, a run loses its lease

log = logging.getLogger("taskweave.worker")


class Keeper:
    """Keeps leases from `hold` until `release`; safe to call from the driver's thread while its own thread works."""

    def __init__(
        self,
        store: TaskStore,
        env: Env,
        member: str,
        lease_us: Micros,
        tell: Callable[[Event], None],
        blamed: Callable[[], Claimed | None],
    ) -> None:
        self.lag_us: Micros = 0  # how late the user's loop answered last
        self._store, self._env, self._member, self._lease_us = store, env, member, lease_us
        self._tell, self._blamed = tell, blamed
        self._book = LeaseBook(lease_us)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stop: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._beat_at: Micros | None = None  # a beat is on its way through the user's loop since then
        self._warned = False

    def hold(self, jobs: Iterable[Claimed], sent_at: Micros) -> None:
        with self._lock:
            for job in jobs:
                timeout = job.spec.timeout_us
                stop_at = None if timeout is None else sent_at + timeout + OBEY_US
                self._book.add(Lease(job.spec.id, job.fence), sent_at, stop_at)

    def release(self, leases: Iterable[Lease]) -> None:
        with self._lock:
            for lease in leases:
                self._book.drop(lease)

    # --- the thread -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Call inside the user's event loop."""
        self._post = poster()
        self._thread = threading.Thread(target=self._main, name="taskweave-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Blocks until the thread has ended; leases that are still held run out."""
        self._ended.set()
        if self._stop is not None:
            self._stop()
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            anyio.run(self.keep, backend="asyncio")
        except Exception:
            log.exception("the keeper failed; leases of long runs will run out and their jobs start elsewhere")

    async def keep(self) -> None:
        """Renew until stopped."""
        stopping = anyio.Event()
        post = poster()
        self._stop = lambda: post(stopping.set)
        if self._ended.is_set():
            return
        async with anyio.create_task_group() as group:
            asking, asked = anyio.create_memory_object_stream[Sequence[Lease]]()  # of no length: taken, or refused
            group.start_soon(self._renew_asked, asked)
            async with asking:
                while not stopping.is_set():
                    self._beat()
                    with self._lock:
                        due = self._book.due(self._env.now())
                    if due:
                        with suppress(anyio.WouldBlock):  # a renewal is under way; these are asked for again soon
                            asking.send_nowait(due)
                    self._lose_overdue()
                    with anyio.move_on_after(self._pause_us() / SECOND):
                        await stopping.wait()

    async def _renew_asked(self, asked: MemoryObjectReceiveStream[Sequence[Lease]]) -> None:
        """A store that does not answer holds up the renewals, not the watch over leases that run out meanwhile."""
        store: TaskStore | None = None
        async with AsyncExitStack() as stack, asked:
            async for due in asked:
                try:
                    if store is None:
                        store = await stack.enter_async_context(self._store.another())
                    await self._renew(store, due)
                except StoreError as error:
                    log.warning("leases could not be renewed, trying again: %s", error)

    def _pause_us(self) -> Micros:
        with self._lock:
            at = self._book.wake_at()
        most = min(BEAT_US, self._lease_us // 6)  # a lease taken meanwhile is seen before it must be renewed
        return most if at is None else max(10 * MILLISECOND, min(most, at - self._env.now()))

    async def _renew(self, store: TaskStore, due: Sequence[Lease]) -> None:
        sent_at = self._env.now()
        answer = await store.apply(Renew(self._member, tuple(due), self._lease_us))
        lost = set(answer.lost)
        with self._lock:
            self._book.renewed([lease for lease in due if lease not in lost], sent_at)
            for lease in lost:
                self._book.drop(lease)
        if lost:
            self._send(LeasesLost(tuple(lost)))
        if answer.cancels:
            self._send(CancelsRequested(answer.cancels))

    def _lose_overdue(self) -> None:
        with self._lock:
            overdue = self._book.overdue(self._env.now())
        if overdue:
            self._send(LeasesLost(tuple(overdue)))

    def _send(self, event: Event) -> None:
        self._post(lambda: self._tell(event))

    # --- the loop's lag -------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        now = self._env.now()
        if self._beat_at is None:
            with self._lock:
                busy = len(self._book) > 0
            if busy:
                self._beat_at, self._warned = now, False
                self._post(self._beaten)
        elif now - self._beat_at > LAG_WARN_US and not self._warned:
            self._warned = True
            job = self._blamed()
            if job is None:
                log.warning("the event loop has not answered for %.1f s", (now - self._beat_at) / SECOND)
            else:
                log.warning(
                    "task %s blocks the event loop for %.1f s (job %s); await something, or use run_in='thread'",
                    job.spec.task,
                    (now - self._beat_at) / SECOND,
                    job.spec.id,
                )

    def _beaten(self) -> None:
        if self._beat_at is not None:
            self.lag_us, self._beat_at = self._env.now() - self._beat_at, None
