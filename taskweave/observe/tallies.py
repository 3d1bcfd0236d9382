"""What is counted of attempts, in plain numbers: an attempt costs a few additions, a scrape does the rest.

The worker's loop adds, the thread of a scrape reads. A scrape may see an attempt in a bucket and not yet in the sum;
it never sees a count go down.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from taskweave.core.ids import SECOND, Micros
from taskweave.core.verbs import Claimed, Settlement
from taskweave.observe.attempts import AttemptBook


class Buckets:
    """A histogram of spans; `bounds` are seconds, ascending, each the largest span of its bucket."""

    __slots__ = ("bounds_us", "counts", "sum_us")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds_us = [round(bound * SECOND) for bound in bounds]
        self.counts = [0] * (len(bounds) + 1)  # the last one is of what is longer
        self.sum_us: Micros = 0

    def observe(self, span_us: Micros) -> None:
        self.counts[bisect_left(self.bounds_us, span_us)] += 1
        self.sum_us += span_us


class Tally:
    """The counts of one task on one queue; `ends` by outcome."""

    __slots__ = ("ends", "run", "started", "wait")

    def __init__(self, wait: Sequence[float], run: Sequence[float]) -> None:
        self.started = 0
        self.wait = Buckets(wait)
        self.run = Buckets(run)
        self.ends: dict[str, int] = {}


class Tallies:
    """Counts attempts by (task, queue); an end is counted once, when its settlement is durable."""

    def __init__(self, wait: Sequence[float], run: Sequence[float]) -> None:
        self._bounds = wait, run
        self._book = AttemptBook()
        self._tallies: dict[tuple[str, str], Tally] = {}

    def items(self) -> list[tuple[tuple[str, str], Tally]]:
        """Those that there are, from any thread."""
        return list(self._tallies.items())

    def of(self, job: Claimed) -> Tally:
        spec = job.spec
        key = (spec.task, spec.queue)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(*self._bounds)
        return tally

    def started(self, jobs: Sequence[Claimed]) -> None:
        self._book.started(jobs)
        for job in jobs:
            tally = self.of(job)
            tally.started += 1
            tally.wait.observe(job.wait_us)

    def ended(self, job: Claimed, run_us: Micros) -> None:
        self._book.ended(job)
        self.of(job).run.observe(run_us)

    def settled(self, settled: Sequence[Settlement]) -> None:
        for job, _, outcome in self._book.settled(settled):
            ends = self.of(job).ends
            ends[outcome] = ends.get(outcome, 0) + 1
