"""Stores with one bug each, the bugs that stores have: the conformance suite must find every one.

Each is the memory store with one verb spoilt; `BROKEN` has them by name. Some are wrong at once, some only when two
clients meet, and some only after a while.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio.lowlevel import checkpoint
from attrs import evolve

from taskweave.core.ids import Micros
from taskweave.core.job import State, Verb
from taskweave.core.queue import Queue
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Change,
    Changed,
    Count,
    DeleteJobs,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    Exported,
    Find,
    Found,
    How,
    Lease,
    Load,
    Maintain,
    Op,
    PurgeQueue,
    QueueStat,
    Renew,
    Restore,
    Settlement,
    Stats,
    TakeDump,
)
from taskweave.exceptions import InvalidInput
from taskweave.stores.clock import SystemClock

A = TypeVar("A")
Maker = Callable[[str], Any]
BROKEN: dict[str, Maker] = {}


class Spoilt:
    """A store over one queue machine, whose ops pass through `spoil`."""

    def __init__(self, queue: Queue | None = None) -> None:
        self.queue = Queue() if queue is None else queue

    url = "broken://"

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def apply(self, op: Op[A], *, at: Micros | None = None) -> A:
        await checkpoint()
        return await self.spoil(op, SystemClock().wall() if at is None else at)

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        return self.queue.apply(op, now)

    def another(self) -> Any:
        return type(self)(self.queue)


def broken(kind: type[Spoilt]) -> type[Spoilt]:
    @asynccontextmanager
    async def make(namespace: str) -> AsyncGenerator[Any]:
        yield kind()

    BROKEN[kind.__name__] = make
    return kind


@broken
class ForgetsTheFence(Spoilt):
    """A settlement is taken whatever its fence says."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Exchange) and op.settle:
            jobs = self.queue.apply(Load(tuple([end.id for end in op.settle])), now)
            fences = {job.id: job.life.fence for job in jobs if job is not None}
            ends = tuple([evolve(end, fence=fences.get(end.id, end.fence)) for end in op.settle])
            return self.queue.apply(evolve(op, settle=ends), now)
        return self.queue.apply(op, now)


@broken
class ForgetsUnique(Spoilt):
    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Enqueue):
            op = Enqueue(tuple([evolve(spec, unique=None) for spec in op.specs]))
        return self.queue.apply(op, now)


@broken
class HandsOutTwice(Spoilt):
    """Two claims that read before either writes get the same job: here, every fifth claim repeats the last."""

    claims = 0
    last: tuple[Any, ...] = ()

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        if isinstance(op, Exchange) and op.want:
            Spoilt.claims = getattr(Spoilt, "claims", 0) + 1
            if Spoilt.claims % 5 == 0 and not answer.claimed and HandsOutTwice.last:
                return evolve(answer, claimed=HandsOutTwice.last)
            HandsOutTwice.last = answer.claimed or HandsOutTwice.last
        return answer


@broken
class LosesAnEnqueue(Spoilt):
    """A batch of more than two jobs loses its last one, which is acknowledged all the same."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Enqueue) and len(op.specs) > 2:
            answers = self.queue.apply(Enqueue(op.specs[:-1]), now)
            return (*answers, Enqueued(op.specs[-1].id))
        return self.queue.apply(op, now)


@broken
class ReordersAClaim(Spoilt):
    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        return evolve(answer, claimed=answer.claimed[::-1]) if isinstance(answer, Exchanged) else answer


@broken
class Miscounts(Spoilt):
    """A job that was set aside by a claim is not counted."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        if isinstance(op, Count):
            lines = self.queue._table.lines
            answer = Stats(answer.now, tuple([self._less(stat, lines) for stat in answer.queues]))
        return answer

    def _less(self, stat: QueueStat, lines: Any) -> QueueStat:
        aside = len(lines[stat.queue].aside) if stat.queue in lines else 0
        counts = [(state, number - (aside if state is State.READY else 0)) for state, number in stat.counts]
        return evolve(stat, counts=tuple([entry for entry in counts if entry[1]]))


@broken
class StoresHalfABatch(Spoilt):
    """A batch is stored one by one, and stops where one is refused."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Enqueue) and len({spec.id for spec in op.specs}) == len(op.specs) <= 100:
            return tuple([self.queue.apply(Enqueue((spec,)), now)[0] for spec in op.specs])
        return self.queue.apply(op, now)


@broken
class RenewsWhatIsOver(Spoilt):
    """A lease that has run out, but was not reaped yet, is renewed."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Renew):
            rows = {lease: self.queue._table.ids.get(lease.id) for lease in op.leases}
            late = [row.life.hold.lease_until for row in rows.values() if row and row.life.hold]
            return evolve(self.queue.apply(op, min([now, *[until - 1 for until in late]])), now=now)
        return self.queue.apply(op, now)


@broken
class ReapsLate(Spoilt):
    """A lease is over when now > lease_until, not when they are equal."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Maintain) and (head := self.queue._table.leases.head()) is not None and head[0] == now:
            return evolve(self.queue.apply(op, now - 1), now=now)
        return self.queue.apply(op, now)


@broken
class ForgetsTheToken(Spoilt):
    """A settlement that is sent again is refused."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if not isinstance(op, Exchange):
            return self.queue.apply(op, now)
        rows = {end: self.queue._table.ids.get(end.id) for end in op.settle}
        over = [end for end, row in rows.items() if row is not None and row.life.hold is None]
        answer = self.queue.apply(op, now)
        return evolve(answer, refused=(*answer.refused, *[Lease(end.id, end.fence) for end in over]))


@broken
class ForgetsTheClaimId(Spoilt):
    """A repeated claim takes new jobs."""

    claims = 0

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Exchange):
            ForgetsTheClaimId.claims += 1
            op = evolve(op, claim_id=f"{op.claim_id}-{ForgetsTheClaimId.claims}")
        return self.queue.apply(op, now)


@broken
class FoldsCase(Spoilt):
    """Unique keys are compared without regard to case, as many a collation does."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Enqueue):
            op = Enqueue(tuple([evolve(spec, unique=_folded(spec.unique)) for spec in op.specs]))
        return self.queue.apply(op, now)


def _folded(unique: UniqueKey | None) -> UniqueKey | None:
    return None if unique is None else evolve(unique, key=unique.key.lower())


@broken
class CutsTexts(Spoilt):
    """Texts end at their first NUL, as in C."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Exchange):
            ends = [evolve(end, reason=end.reason and end.reason.partition("\0")[0]) for end in op.settle]
            op = evolve(op, settle=tuple(ends))
        return self.queue.apply(op, now)


@broken
class TakesNoResultForAnEmptyOne(Spoilt):
    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Exchange):
            op = evolve(op, settle=tuple([evolve(end, result=end.result or None) for end in op.settle]))
        return self.queue.apply(op, now)


@broken
class RoundsInstants(Spoilt):
    """Milliseconds, not microseconds: delays are rounded down."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Enqueue):
            specs = [
                evolve(spec, delay_us=spec.delay_us // 1_000 * 1_000) for spec in op.specs if _whole(spec.delay_us)
            ]
            op = Enqueue(tuple(specs)) if len(specs) == len(op.specs) else op
        return self.queue.apply(op, now)


def _whole(delay: Any) -> bool:
    return isinstance(delay, int)


@broken
class PagesByPosition(Spoilt):
    """A page begins after so many rows, not after a row: jobs that come or go meanwhile shift it."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if not isinstance(op, Find):
            return self.queue.apply(op, now)
        every = self.queue.apply(evolve(op, after=None, limit=500), now).jobs
        begin = op.after or 0
        limit = max(1, min(op.limit, 500))
        page = every[begin : begin + limit]
        return Found(page, begin + limit if len(every) > begin + limit else None)


@broken
class PausesMaintenanceToo(Spoilt):
    """What is due in a paused queue is not promoted."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        table = self.queue._table
        hidden = {name: table.lines[name] for name in table.paused if name in table.lines}
        if not isinstance(op, Maintain) or not hidden:
            return self.queue.apply(op, now)
        orders = {name: line.scheduled for name, line in hidden.items()}
        for line in hidden.values():
            line.scheduled = type(line.scheduled)(lambda entry: True)
        try:
            return self.queue.apply(op, now)
        finally:
            for name, order in orders.items():
                hidden[name].scheduled = order


@broken
class RunsTimeBackwards(Spoilt):
    """The floor of store time is forgotten."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        table = self.queue._table
        if isinstance(op, Maintain | TakeDump):
            return self.queue.apply(op, now)
        floor, table.floor = table.floor, 0
        try:
            return self.queue.apply(op, now)
        finally:
            table.floor = floor


@broken
class CancelsTheRunning(Spoilt):
    """A running job is cancelled at once, without a word to its worker."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, CancelJobs):
            jobs = [job for job in self.queue.apply(Load(op.ids), now) if job is not None and job.life.hold is not None]
            ends = [Settlement(job.id, job.life.fence, Verb.CANCEL, reason=op.reason) for job in jobs]
            self.queue.apply(Exchange("", "-", 0, (), (), 1, tuple(ends)), now)
        return self.queue.apply(op, now)


@broken
class SpawnsBeforeItSettles(Spoilt):
    """Children are stored by a write of their own, whatever becomes of their parent's end."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if isinstance(op, Exchange):
            for end in op.settle:
                for spec in end.spawn:
                    try:
                        self.queue.apply(Enqueue((spec,)), now)
                    except InvalidInput:
                        break
        return self.queue.apply(op, now)


@broken
class ReadsThenWrites(Spoilt):
    """The claim of a key is a read and a write with a pause between them: only clients that meet are hurt."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if not isinstance(op, Enqueue) or not any(spec.unique for spec in op.specs):
            return self.queue.apply(op, now)
        table = self.queue._table
        free = [spec for spec in op.specs if spec.unique and table.holder(spec.unique.key, now) is None]
        await checkpoint()
        for spec in free:
            assert spec.unique is not None
            if spec.id not in table.ids:
                table.keys.pop(spec.unique.key, None)
        return self.queue.apply(op, now)


@broken
class SeesOldRows(Spoilt):
    """Reads are answered from a copy that is a few ops behind, as by a replica."""

    def __init__(self, queue: Queue | None = None) -> None:
        super().__init__(queue)
        self.old: dict[str, Any] = {}

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        if isinstance(op, Count):
            answer, self.old["count"] = self.old.get("count", answer), answer
        return answer


@broken
class ForgetsOnClose(Spoilt):
    """What another store on the same jobs wrote is not there."""

    def another(self) -> Any:
        return type(self)()


@broken
class SharesNamespaces(Spoilt):
    """All namespaces are one."""

    one = Queue()

    def __init__(self, queue: Queue | None = None) -> None:
        super().__init__(SharesNamespaces.one)


@broken
class PurgesTheRunning(Spoilt):
    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        if isinstance(op, PurgeQueue):
            rows = [row for row in self.queue._table.ids.values() if row.spec.queue == op.queue]
            self.queue.apply(DeleteJobs(tuple([row.spec.id for row in rows if row.life.end is not None])), now)
        return answer


@broken
class AnswersCreatedTwice(Spoilt):
    """An enqueue that is sent again is told that it made the job."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        if isinstance(op, Enqueue):
            answer = tuple(
                [
                    evolve(one, how=How.CREATED) if one.id == spec.id else one
                    for spec, one in zip(op.specs, answer, strict=True)
                ]
            )
        return answer


# --- what is moved ------------------------------------------------------------------------------------------------


@broken
class KeepsTheLeaseOfAMove(Spoilt):
    """What ran elsewhere runs on here, under a lease that nobody holds."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if not isinstance(op, Restore):
            return self.queue.apply(op, now)
        running = {job.id: job for job in op.jobs if job.life.hold is not None}
        answers = self.queue.apply(Restore(tuple([job for job in op.jobs if job.id not in running])), now)
        for job in running.values():
            self.queue._table.restore(job, now)
        by_id = {answer.id: answer for answer in answers}
        return tuple([by_id.get(job.id, Changed(job.id, Change.DONE, State.RUNNING)) for job in op.jobs])


@broken
class MovesInAnotherOrder(Spoilt):
    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        if not isinstance(op, Restore):
            return self.queue.apply(op, now)
        return self.queue.apply(Restore(op.jobs[::-1]), now)[::-1]


@broken
class EndsAPageTooEarly(Spoilt):
    """A page that is full is taken for the last one."""

    async def spoil(self, op: Op[Any], now: Micros) -> Any:
        answer = self.queue.apply(op, now)
        return evolve(answer, next=None) if isinstance(answer, Exported) else answer
