"""How far the demo is: bars on a terminal, a line for each tenth elsewhere. An observer of the executor."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import click

from taskweave.core.events import RunEnded
from taskweave.core.ids import JobId, Micros
from taskweave.core.verbs import Claimed, Settlement
from taskweave.exceptions import StoreFull
from taskweave.observe.attempts import AttemptBook

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class DemoProgress:
    """Counts durable ends of these jobs: `done` in this run, `known` with what earlier runs finished.

    `stages` is the stage of each job by its id, `finished` the ids that earlier runs finished. Made inside a loop.
    """

    def __init__(self, stages: Mapping[JobId, str], finished: Collection[JobId]) -> None:
        self.done = 0
        self.full = False
        self.completed = anyio.Event()
        self._stages, self._earlier = stages, len(finished)
        self._totals = Counter(stages.values())
        self._known = Counter(stages[id] for id in finished)
        self._book = AttemptBook()
        self._tenth = 10 * len(finished) // max(1, len(stages))
        self._bars: Progress | None = None
        self._bar_of: dict[str, TaskID] = {}

    @property
    def known(self) -> int:
        return self._earlier + self.done

    @property
    def finished(self) -> bool:
        return self.known >= len(self._stages)

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            self._open_bars()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _open_bars(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description:<20}"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._bars.start()
        for stage, total in self._totals.items():
            self._bar_of[stage] = self._bars.add_task(stage, total=total, completed=self._known[stage])

    # --- an observer ----------------------------------------------------------------------------------------------

    def started(self, jobs: Sequence[Claimed]) -> None:
        self._book.started(jobs)

    def ended(self, run: RunEnded, job: Claimed, run_us: Micros) -> None:
        self._book.ended(job)

    def settled(self, settled: Sequence[Settlement]) -> None:
        for job, _, outcome in self._book.settled(settled):
            stage = self._stages.get(job.id)
            if stage is not None and outcome in ("succeeded", "failed", "cancelled"):
                self.done += 1
                if self._bars is not None:
                    self._bars.advance(self._bar_of[stage])
        if self._bars is None:
            self._say_tenths()
        if self.finished:
            self.completed.set()

    def store_called(self, verb: str, took_us: Micros, problem: str | None) -> None:
        """A worker waits for room on a full disk; a demo that nobody looks after ends instead."""
        if problem == StoreFull.code:
            self.full = True
            self.completed.set()

    def slots(self, used: int, total: int) -> None:
        """Slots are not progress."""

    def _say_tenths(self) -> None:
        tenth = 10 * self.known // max(1, len(self._stages))
        if tenth > self._tenth:
            self._tenth = tenth
            click.echo(f"{self.known}/{len(self._stages)} jobs", err=True)
