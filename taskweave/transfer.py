"""Every job of one store, carried to another or held against it, page by page and in order.

`copy` may be run again after it was cut off: jobs that are there already are left as they are. `compare` then reads
both sides back and says whether they mean the same: the lines of all jobs (`_codec.jobs.line_of`), in their order,
digested. Neither is one instant: each page is. What another client changes meanwhile shows as a difference, so both
are meant for stores that nobody works on; only a backup is taken while workers run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from typing import Final, TypeAlias

from attrs import define, field, fields, frozen

from taskweave._codec.jobs import line_of
from taskweave.abc import TaskStore
from taskweave.core.job import Job, State
from taskweave.core.moving import parked
from taskweave.core.verbs import Change, Changed, Export, Load, PauseQueue, Restore

TAKEN_MAX: Final = 100  # jobs that could not be stored, kept for the report

Told: TypeAlias = Callable[[int], None]  # how many more jobs were dealt with
Kind: TypeAlias = tuple[str, State]


@define
class Tally:
    """What a sequence of jobs amounts to: equal for equal sequences, and for no others."""

    jobs: int = 0
    counts: Counter[Kind] = field(factory=Counter[Kind])
    _hash: blake2b = field(factory=lambda: blake2b(digest_size=16), repr=False)

    def add(self, job: Job) -> str:
        """Count it as it would be carried; return its line."""
        carried = parked(job)
        line = line_of(carried)
        self.jobs += 1
        self.counts[job.spec.queue, carried.state] += 1
        self._hash.update(line.encode() + b"\n")
        return line

    @property
    def checksum(self) -> str:
        return self._hash.hexdigest()


@define
class Copied:
    """What a copy did. `running` of the jobs were running; `stopped` if it ended for the first of them."""

    stored: int = 0
    existing: int = 0
    running: int = 0
    stopped: bool = False
    taken: list[Changed] = field(factory=list[Changed])  # unique keys that others hold; the first of them
    refused: int = 0  # how many those are in all

    def count(self, answers: Sequence[Changed]) -> None:
        for answer in answers:
            if answer.change is Change.DONE:
                self.stored += 1
            elif answer.change is Change.EXISTING:
                self.existing += 1
            else:
                self.refused += 1
                self.taken = [*self.taken, answer][:TAKEN_MAX]


@frozen
class Comparison:
    """Whether the second side has all jobs of the first, equal and in the same order; what else it has is no matter."""

    source: Tally
    target: Tally
    differences: int = 0
    first: str | None = None  # the first job that differs, and how

    @property
    def equal(self) -> bool:
        return not self.differences and self.source.checksum == self.target.checksum


async def pages(store: TaskStore) -> AsyncIterator[tuple[Job, ...]]:
    """Every job that was there from the first page to the last, oldest first. Raises StoreError."""
    after: int | None = 0
    while after is not None:
        page = await store.apply(Export(after))
        if page.jobs:
            yield page.jobs
        after = page.next


async def copy(
    jobs: AsyncIterator[tuple[Job, ...]], paused: Sequence[str], target: TaskStore, *, release: bool, told: Told
) -> Copied:
    """Store every job that is not there yet, after the pauses, so that no worker starts what was held back.

    Without `release` it ends before the first page with a running job. Raises StoreError, InvalidInput; then what was
    stored so far stays, and the next copy goes on from there.
    """
    copied = Copied()
    for queue in paused:
        await target.apply(PauseQueue(queue))
    async for page in jobs:
        running = sum(job.state is State.RUNNING for job in page)
        copied.running += running
        if running and not release:
            copied.stopped = True
            break
        copied.count(await target.apply(Restore(page)))
        told(len(page))
    return copied


async def compare(jobs: AsyncIterator[tuple[Job, ...]], target: TaskStore, told: Told) -> Comparison:
    """Read the jobs again, and from the target those with their ids. Raises StoreError."""
    source, there = Tally(), Tally()
    differences, first, last = 0, None, 0
    async for page in jobs:
        found = await target.apply(Load(tuple([job.id for job in page])))
        for job, other in zip(page, found, strict=True):
            line, problem = source.add(job), "it is not there"
            if other is not None:
                same = there.add(other) == line
                problem = _difference(parked(job), parked(other), same=same, ordered=other.seq > last)
                last = other.seq
            if problem:
                differences += 1
                first = first or f"job {job.id}: {problem}"
        told(len(page))
    return Comparison(source, there, differences, first)


def _difference(job: Job, other: Job, *, same: bool, ordered: bool) -> str:
    """What tells the second from the first; empty where nothing does."""
    if same:
        return "" if ordered else "it comes too early in the order"
    if job.state is not other.state:
        return f"it is {other.state}, and was {job.state}"
    return f"its {_part(job, other)} is another"


def _part(job: Job, other: Job) -> str:
    """The first part in which two jobs differ, by its name."""
    for one, two in ((job.spec, other.spec), (job.life, other.life), (job, other)):
        for each in fields(type(one)):
            if each.name != "seq" and getattr(one, each.name) != getattr(two, each.name):
                return str(each.name)
    return "line"
