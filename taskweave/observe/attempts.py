"""The attempts under way in one process, so that an end which is durable can be told with its task and queue.

A settlement names its job by id and fence alone; what it means (a retry that spends the last attempt is a failure)
is the core's rule, taken from there. The book is bounded: an attempt is in it from its start until its settlement,
and one whose settlement was refused is dropped after `ENDED_MAX` later ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from taskweave.core.ids import JobId
from taskweave.core.job import Verb
from taskweave.core.life import verdict
from taskweave.core.verbs import Claimed, Settlement

ENDED_MAX: Final = 10_000  # attempts that ended and whose settlement has not been heard of

_SUCCEED: Final = Verb.SUCCEED
_OUTCOMES: Final = {
    Verb.SUCCEED: "succeeded",
    Verb.FAIL: "failed",
    Verb.RETRY: "retried",
    Verb.SNOOZE: "snoozed",
    Verb.RELEASE: "released",
    Verb.CANCEL: "cancelled",
    Verb.ABANDON: "lost",
}


class AttemptBook:
    """Holds each claimed attempt until its settlement is durable; never more than slots + ENDED_MAX of them."""

    def __init__(self) -> None:
        self._running: dict[JobId, Claimed] = {}
        self._ended: dict[JobId, Claimed] = {}

    def started(self, jobs: Sequence[Claimed]) -> None:
        running = self._running
        for job in jobs:
            running[job.spec.id] = job

    def ended(self, job: Claimed) -> None:
        """The run is over; one that was settled before its end (it ignored its cancellation) is not kept again."""
        if self.forget(job):
            self._ended[job.spec.id] = job
            if len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]

    def forget(self, job: Claimed) -> bool:
        """The run is over, and nobody will ask for its settlement; False when it was not running."""
        id = job.spec.id
        known = self._running.get(id)
        if known is None or known.fence != job.fence:
            return False
        del self._running[id]
        return True

    def settled(self, settlements: Sequence[Settlement]) -> Iterator[tuple[Claimed, Settlement, str]]:
        """Yield each known attempt with its settlement and the outcome in words, once."""
        ended, running = self._ended, self._running
        for settlement in settlements:
            id = settlement.id
            for book in (ended, running):
                job = book.get(id)
                if job is not None and job.fence == settlement.fence:
                    del book[id]
                    yield job, settlement, _outcome(job, settlement)
                    break


def _outcome(job: Claimed, settlement: Settlement) -> str:
    if settlement.verb is _SUCCEED:
        return "succeeded"
    verb, _, _ = verdict(job.spec, job.attempt, 0, None, settlement)
    return _OUTCOMES.get(verb, verb.value)
