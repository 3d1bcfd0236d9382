"""The observers of one worker, behind one call that never fails: a broken observer must not cost a job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from taskweave.abc import Observer
from taskweave.core.events import RunEnded
from taskweave.core.ids import Micros
from taskweave.core.verbs import Claimed, Settlement

log = logging.getLogger("taskweave.worker")


class Watching:
    """Tells every observer; one that raises is logged once and told on. Falsy without observers, to skip the work.

    What is told once for each attempt is written out, since a closure would cost as much as the observer.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def _failing(self, observer: Observer) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            log.exception("observer %r failed; later failures are not logged", type(observer).__name__)

    def started(self, jobs: Sequence[Claimed]) -> None:
        for observer in self._observers:
            try:
                observer.started(jobs)
            except Exception:  # noqa: BLE001 - logged
                self._failing(observer)

    def ended(self, run: RunEnded, job: Claimed, run_us: Micros) -> None:
        for observer in self._observers:
            try:
                observer.ended(run, job, run_us)
            except Exception:  # noqa: BLE001 - logged
                self._failing(observer)

    def settled(self, settled: Sequence[Settlement]) -> None:
        self._each(lambda observer: observer.settled(settled))

    def store_called(self, verb: str, took_us: Micros, problem: str | None) -> None:
        self._each(lambda observer: observer.store_called(verb, took_us, problem))

    def slots(self, used: int, total: int) -> None:
        self._each(lambda observer: observer.slots(used, total))

    def _each(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:  # noqa: BLE001 - logged
                self._failing(observer)
