"""Who is told of what: the listeners of a store, and what each op may mean to them. Shared by the embedded stores.

A listener to queues is told of jobs that may be claimed there or must be stopped; one that listens to none waits for
results, and is told of ends. Wake-ups are hints and are coalesced: between two returns of wait() any number counts as
one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import anyio
from attrs import frozen

from taskweave._bridge import Post, poster
from taskweave.core.job import Verb
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
    Restore,
    ResumeQueue,
    RetryJobs,
    UpdateJob,
)


class Listener:
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


# --- what an op may mean to those who listen ----------------------------------------------------------------------


@frozen
class Touch:
    """Queues in which something may be claimed or must be stopped now (None: any), and whether jobs have ended."""

    queues: frozenset[str] | None
    ends: bool = False


_ALL: Final = None
_NOTHING: Final = Touch(frozenset())
_ENDS: Final = Touch(frozenset(), ends=True)
_ANYTHING: Final = Touch(_ALL, ends=True)
_ENDING: Final = frozenset({Verb.SUCCEED, Verb.FAIL, Verb.CANCEL})


def _enqueued(op: Enqueue, answer: tuple[Enqueued, ...]) -> Touch:
    pairs = zip(op.specs, answer, strict=True)
    return Touch(frozenset([spec.queue for spec, enqueued in pairs if enqueued.how is not How.EXISTING]))


def _exchanged(op: Exchange, answer: Exchanged) -> Touch:
    if not op.settle:
        return _NOTHING
    if any(settlement.verb not in _ENDING or settlement.spawn for settlement in op.settle):
        return _ANYTHING
    return _ENDS


def _maintained(op: Maintain, answer: Maintained) -> Touch:
    claimable = answer.promoted or answer.reaped
    return Touch(_ALL if claimable else frozenset(), ends=bool(answer.reaped or answer.expired or answer.pruned))


def _resumed(op: ResumeQueue, answer: bool) -> Touch:
    return Touch(frozenset({op.queue}))


def _operated(op: Op[Any], answer: Any) -> Touch:
    return _ANYTHING


_TOUCHED: Final[dict[type[Op[Any]], Callable[[Any, Any], Touch]]] = {
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
    Restore: _operated,
}


def touched(op: Op[Any], answer: Any) -> Touch:
    """What this op, answered so, may mean to those who listen."""
    of = _TOUCHED.get(type(op))
    return _NOTHING if of is None else of(op, answer)


def wake(listeners: Collection[Listener], touch: Touch) -> None:
    """Wake those of these listeners to whom this may mean something. From any thread."""
    for listener in listeners:
        if not listener.queues:
            if touch.ends:
                listener.wake()
        elif touch.queues is None or not touch.queues.isdisjoint(listener.queues):
            listener.wake()


def wake_touched(listeners: Collection[Listener], op: Op[Any], answer: Any) -> None:
    """Wake those of these listeners to whom this op, answered so, may mean something. From any thread."""
    wake(listeners, touched(op, answer))
