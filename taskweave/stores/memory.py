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

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Lock
from typing import Any, Final, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen

from taskweave._bridge import Post, poster
from taskweave.abc import Clock
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Micros
from taskweave.core.job import Verb
from taskweave.core.queue import Queue
from taskweave.core.verbs import (
    CancelJobs,
    DeleteJobs,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    How,
    Maintain,
    Maintained,
    Op,
    Prune,
    PurgeQueue,
    ResumeQueue,
    RetryJobs,
    UpdateJob,
)
from taskweave.stores.clock import SystemClock

A = TypeVar("A")

JOBS_MAX: Final = 1_000_000
OPS_PER_CHECKPOINT: Final = 32


class _Listener:
    """Wakeups of one listener, woken from any thread; lives in the loop that made it."""

    def __init__(self, queues: Collection[str]) -> None:
        self.queues = frozenset(queues)
        self._event = anyio.Event()
        self._post: Post = poster()
        self._posted = False  # a wake-up is under way; guarded by nothing: a lost race posts one more hint

    def wake(self) -> None:
        """From any thread."""
        if not self._posted:
            self._posted = True
            self._post(self._set)

    def _set(self) -> None:
        self._posted = False
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


@define
class _Shared:
    """What all stores on the same jobs have in common."""

    queue: Queue
    lock: Lock = field(factory=Lock)
    listeners: tuple[_Listener, ...] = ()  # replaced, never changed, so that it is read without the lock


class MemoryTaskStore:
    """Every op happens completely or not at all, and is gone with the process.

    `clock` gives store time, by default the machine's. At most `jobs_max` jobs, finished ones included; the oldest
    finished make room for new ones. `aging_us` is what one step of priority is worth in microseconds of waiting.
    `apply` raises InvalidInput and StoreFull; nothing was stored then.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        jobs_max: int = JOBS_MAX,
        aging_us: Micros | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
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
            self._wake(op, answer)
        return answer

    def another(self) -> MemoryTaskStore:
        """A store on the same jobs, for another thread or event loop."""
        store = MemoryTaskStore(self._clock)
        store._shared = self._shared
        return store

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[_Listener]:
        """Wake-ups for these queues, in the loop that enters it, for changes made from any thread."""
        return self._listening(queues)

    @asynccontextmanager
    async def _listening(self, queues: Collection[str]) -> AsyncGenerator[_Listener]:
        listener = _Listener(queues)
        shared = self._shared
        with shared.lock:
            shared.listeners = (*shared.listeners, listener)
        try:
            yield listener
        finally:
            with shared.lock:
                shared.listeners = tuple(other for other in shared.listeners if other is not listener)

    def _wake(self, op: Op[Any], answer: Any) -> None:
        touched = _TOUCHED.get(type(op))
        if touched is None:
            return
        touch = touched(op, answer)
        for listener in self._shared.listeners:
            if not listener.queues:
                if touch.ends:
                    listener.wake()
            elif touch.queues is None or not touch.queues.isdisjoint(listener.queues):
                listener.wake()


# --- what an op may mean to those who listen ----------------------------------------------------------------------


@frozen
class _Touch:
    """Queues in which something may be claimed or must be stopped now (None: any), and whether jobs have ended."""

    queues: frozenset[str] | None
    ends: bool = False


_ALL: Final = None
_NOTHING: Final = _Touch(frozenset())
_ENDS: Final = _Touch(frozenset(), ends=True)
_ANYTHING: Final = _Touch(_ALL, ends=True)
_ENDING: Final = frozenset({Verb.SUCCEED, Verb.FAIL, Verb.CANCEL})


def _enqueued(op: Enqueue, answer: tuple[Enqueued, ...]) -> _Touch:
    pairs = zip(op.specs, answer, strict=True)
    return _Touch(frozenset([spec.queue for spec, enqueued in pairs if enqueued.how is not How.EXISTING]))


def _exchanged(op: Exchange, answer: Exchanged) -> _Touch:
    if not op.settle:
        return _NOTHING
    if any(settlement.verb not in _ENDING or settlement.spawn for settlement in op.settle):
        return _ANYTHING
    return _ENDS


def _maintained(op: Maintain, answer: Maintained) -> _Touch:
    claimable = answer.promoted or answer.reaped
    return _Touch(_ALL if claimable else frozenset(), ends=bool(answer.reaped or answer.expired or answer.pruned))


def _resumed(op: ResumeQueue, answer: bool) -> _Touch:
    return _Touch(frozenset({op.queue}))


def _operated(op: Op[Any], answer: Any) -> _Touch:
    return _ANYTHING


_TOUCHED: Final[dict[type[Op[Any]], Callable[[Any, Any], _Touch]]] = {
    Enqueue: _enqueued,
    Exchange: _exchanged,
    Maintain: _maintained,
    ResumeQueue: _resumed,
    CancelJobs: _operated,
    RetryJobs: _operated,
    UpdateJob: _operated,
    DeleteJobs: _operated,
    PurgeQueue: _operated,
    Prune: _operated,
}
