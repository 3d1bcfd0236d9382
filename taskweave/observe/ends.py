"""The log of ends: one line for each attempt that did not succeed, written when its end is durable."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from taskweave.core.events import Ending, RunEnded
from taskweave.core.ids import SECOND, JobId, Micros
from taskweave.core.job import Verb
from taskweave.core.verbs import Claimed, Settlement
from taskweave.observe.attempts import AttemptBook
from taskweave.observe.logging import JobFields, logger, shortened

_RETURNED: Final = Ending.RETURNED
_SUCCEED: Final = Verb.SUCCEED

RUNS_MAX: Final = 10_000  # runs whose settlement has not been heard of


class LogObserver:
    """Logs every attempt that did not succeed, and with `successes` the others too; arguments and results never.

    Retries are warnings, dead letters errors. It logs durable ends: what it says is what the store says.
    """

    def __init__(self, *, worker: str | None = None, successes: bool = False) -> None:
        self.worker = worker
        self._success_level = logging.INFO if successes else logging.DEBUG
        self._book = AttemptBook()
        self._run_us: dict[tuple[JobId, int], Micros] = {}

    def started(self, jobs: Sequence[Claimed]) -> None:
        self._book.started(jobs)

    def ended(self, run: RunEnded, job: Claimed, run_us: Micros) -> None:
        if run.ending is _RETURNED and not logger.isEnabledFor(self._success_level):
            self._book.forget(job)  # it can only succeed, and that is not logged
            return
        self._book.ended(job)
        if run.ending is Ending.DIED:
            logger.warning("its process died", extra={"taskweave_job": self._fields(job)})
        if len(self._run_us) >= RUNS_MAX:  # of refused settlements: nobody asks for these any more
            self._run_us.clear()
        self._run_us[job.id, job.fence] = run_us

    def settled(self, settled: Sequence[Settlement]) -> None:
        if not logger.isEnabledFor(self._success_level):
            settled = [settlement for settlement in settled if settlement.verb is not _SUCCEED]
        for job, settlement, outcome in self._book.settled(settled):
            run_us = self._run_us.pop((job.id, job.fence), None)
            level = self._level(outcome)
            if logger.isEnabledFor(level):
                logger.log(
                    level, _end_in_words(settlement, outcome, run_us), extra={"taskweave_job": self._fields(job)}
                )

    def store_called(self, verb: str, took_us: Micros, problem: str | None) -> None:
        """A store that does not answer is logged by who asks it, with what it does about that."""

    def slots(self, used: int, total: int) -> None:
        """Slots are a gauge, not an event."""

    def _level(self, outcome: str) -> int:
        if outcome in ("succeeded", "snoozed", "released", "cancelled"):
            return self._success_level
        return logging.WARNING if outcome == "retried" else logging.ERROR

    def _fields(self, job: Claimed) -> JobFields:
        spec = job.spec
        return JobFields(spec.id, spec.task, spec.queue, job.attempt, self.worker, spec.trace)


def _end_in_words(settlement: Settlement, outcome: str, run_us: Micros | None) -> str:
    words = outcome
    if run_us is not None:
        words += f" after {run_us / SECOND:.3f} s"
    if settlement.delay_us and outcome in ("retried", "snoozed", "released"):
        words += f", again in {settlement.delay_us / SECOND:.3g} s"
    if settlement.error is not None:
        words += f": {settlement.error.type}: {shortened(settlement.error.message)}"
    elif settlement.reason:
        words += f": {shortened(settlement.reason)}"
    return words
