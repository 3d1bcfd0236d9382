"""The memory store: the queue machine behind a lock, for one process and for no longer than it lives.

Rules
  threads       the worker's loop, the keeper's thread and sync callers share one Queue; each op holds the lock for
                as long as it computes and for nothing else, and nothing awaits inside it
  checkpoints   `apply` yields to the loop before every OPS_PER_CHECKPOINT-th op only, since a checkpoint costs more
                than a small op, but a loop of enqueues must leave room for others. It comes before the op: cancelled
                there, nothing has happened; after that nothing suspends, so no answer is lost with its claim
  wake-ups      told after the lock is released, to the loop of each listener. One that listens to queues is told of
                jobs that may be claimed there or must be stopped; one that listens to none waits for results, and is
                told of ends. They are coalesced: between two returns of wait() any number counts as one
  bounded       StoreFull when unfinished jobs and dead letters reach the bound; other finished ones make room
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Lock
from typing import Final, Self, TypeVar

from anyio.lowlevel import checkpoint
from attrs import define, field

from taskweave.abc import Clock
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Duration, Micros, span_us
from taskweave.core.queue import Queue
from taskweave.core.verbs import Op
from taskweave.stores.clock import SystemClock
from taskweave.stores.wakeups import Listener, wake_touched

A = TypeVar("A")

JOBS_MAX: Final = 1_000_000
OPS_PER_CHECKPOINT: Final = 32


@define
class _Shared:
    """What all stores on the same jobs have in common."""

    queue: Queue
    lock: Lock = field(factory=Lock)
    listeners: tuple[Listener, ...] = ()  # replaced, never changed, so that it is read without the lock


class MemoryTaskStore:
    """Every op happens completely or not at all, and is gone with the process.

    `clock` gives store time, by default the machine's. At most `jobs_max` jobs, finished ones included; the oldest
    finished make room for new ones. `aging` is what one step of priority is worth in waiting.
    `apply` raises InvalidInput and StoreFull; nothing was stored then.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        jobs_max: int = JOBS_MAX,
        aging: Duration | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        aging_us = None if aging is None else span_us(aging, "aging") or None
        self._shared = _Shared(Queue(aging_us, jobs_max, payload_bytes_max))
        self._ops = 0

    @property
    def url(self) -> str:
        return "memory://"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def apply(self, op: Op[A], *, at: Micros | None = None) -> A:
        """Return the answer to this op; cancelled, it has not happened. Raises InvalidInput and StoreFull."""
        self._ops += 1
        if not self._ops % OPS_PER_CHECKPOINT:
            await checkpoint()
        shared = self._shared
        with shared.lock:
            answer = shared.queue.apply(op, self._clock.wall() if at is None else at)
        if shared.listeners:
            wake_touched(shared.listeners, op, answer)
        return answer

    def another(self) -> MemoryTaskStore:
        """A store on the same jobs, for another thread or event loop."""
        store = MemoryTaskStore(self._clock)
        store._shared = self._shared
        return store

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[Listener]:
        """Wake-ups for these queues, in the loop that enters it, for changes made from any thread."""
        return self._listening(queues)

    @asynccontextmanager
    async def _listening(self, queues: Collection[str]) -> AsyncGenerator[Listener]:
        listener = Listener(queues)
        shared = self._shared
        with shared.lock:
            shared.listeners = (*shared.listeners, listener)
        try:
            yield listener
        finally:
            with shared.lock:
                shared.listeners = tuple(other for other in shared.listeners if other is not listener)
