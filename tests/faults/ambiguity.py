"""One op of each verb, in a store prepared for it: what the tests of ambiguous commits send through a failing network.

A `Twin` is a real store beside the queue machine, which is what every verb means. Both get the same ops at the same
instants; what the store answers, and what it holds afterwards, must be what the machine says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field

from taskweave.abc import TaskStore
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Failure, Progress, Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Claimed,
    DeleteJobs,
    Dump,
    Enqueue,
    Exchange,
    Exchanged,
    Lease,
    LeaseProgress,
    Maintain,
    Op,
    PauseQueue,
    Prune,
    PurgeQueue,
    Renew,
    ResumeQueue,
    RetryJobs,
    Settlement,
    TakeDump,
    UpdateJob,
)
from taskweave.testing.comparing import comparable, difference

START: Micros = 1_000 * SECOND
LEASE_US = 20 * SECOND
FAILURE = Failure("builtins.ValueError", "no\x1b such address \U0001f92f", "Traceback: none", ("ValueError",))


@define
class Twin:
    """The store, reached around all faults, and the machine; `now` is the instant of every op."""

    direct: TaskStore
    machine: Queue = field(factory=Queue)
    now: Micros = START
    case: int = 0

    async def both(self, op: Op[Any]) -> Any:
        """Apply to both; returns the answer, which was the same."""
        answer = await self.direct.apply(op, at=self.now)
        expected = self.machine.apply(op, self.now)
        same(expected, answer, f"{op.name}, without any fault")
        return answer

    async def dump(self) -> Dump:
        return await self.direct.apply(TakeDump(), at=self.now)

    def expected(self) -> Dump:
        return self.machine.apply(TakeDump(), self.now)

    # --- what the cases are made of ---

    def name(self, what: str) -> str:
        return f"{what}{self.case:03}"

    def spec(self, number: int, **fields: Any) -> Spec:
        given: dict[str, Any] = {
            "queue": self.name("q"),
            "payload": b'["\xf0\x9f\xa4\xaf"]',
            "max_attempts": 3,
            **fields,
        }
        return Spec(self.name(f"j{number}-"), "task", **given)

    async def stock(self, count: int, **fields: Any) -> list[Spec]:
        specs = [self.spec(number, **fields) for number in range(count)]
        await self.both(Enqueue(tuple(specs)))
        return specs

    def exchange(self, want: int, *settle: Settlement, what: str = "c", **more: Any) -> Exchange:
        queues = (self.name("q"),)
        return Exchange("member", self.name(what), want, queues, ("task",), LEASE_US, settle, **more)

    async def claimed(self, count: int) -> tuple[Claimed, ...]:
        answer: Exchanged = await self.both(self.exchange(count, what="first"))
        assert len(answer.claimed) == count
        return answer.claimed


def same(expected: Any, found: Any, what: str) -> None:
    """Raises AssertionError that names the first difference; what the semantics leave open is not compared."""
    told = difference(comparable(expected, repeat=True), comparable(found, repeat=True))
    assert told is None, f"{what}: {told}"


Prepare = Callable[[Twin], Awaitable[Op[Any]]]
CASES: dict[str, Prepare] = {}


def case(prepare: Prepare) -> Prepare:
    CASES[prepare.__name__] = prepare
    return prepare


@case
async def enqueue(twin: Twin) -> Op[Any]:
    await twin.both(Enqueue((twin.spec(8, unique=UniqueKey(twin.name("held"))),)))
    return Enqueue(
        (
            twin.spec(0),
            twin.spec(1, unique=UniqueKey(twin.name("key")), tags=(("a", "b"), ("c", "\U0001f92f"))),
            twin.spec(2, unique=UniqueKey(twin.name("held"))),
            twin.spec(3, delay_us=5 * SECOND, priority=-3),
        )
    )


@case
async def enqueue_replacing(twin: Twin) -> Op[Any]:
    held = UniqueKey(twin.name("held"), on_conflict="replace")
    await twin.both(Enqueue((twin.spec(8, unique=held),)))
    return Enqueue((twin.spec(0, unique=held, payload=b'["other"]'),))


@case
async def exchange(twin: Twin) -> Op[Any]:
    """Each way to end, a spawned job, progress of one that runs on, and a claim."""
    await twin.stock(8)
    jobs = await twin.claimed(5)
    ends = (
        Settlement(jobs[0].id, jobs[0].fence, Verb.SUCCEED, b'"done"', spawn=(twin.spec(20), twin.spec(21))),
        Settlement(jobs[1].id, jobs[1].fence, Verb.RETRY, delay_us=SECOND, error=FAILURE),
        Settlement(jobs[2].id, jobs[2].fence, Verb.FAIL, error=FAILURE),
        Settlement(jobs[3].id, jobs[3].fence, Verb.RELEASE),
    )
    progress = (LeaseProgress(jobs[4].id, jobs[4].fence, Progress(0.5, None, "half")),)
    return twin.exchange(2, *ends, progress=progress)


@case
async def exchange_that_succeeds(twin: Twin) -> Op[Any]:
    """What a busy worker sends: plain successes, and more jobs wanted."""
    await twin.stock(6)
    jobs = await twin.claimed(3)
    return twin.exchange(3, *(Settlement(job.id, job.fence, Verb.SUCCEED, b"null") for job in jobs))


@case
async def renew(twin: Twin) -> Op[Any]:
    await twin.stock(4)
    jobs = await twin.claimed(4)
    leases = tuple(Lease(job.id, job.fence) for job in jobs)
    await twin.both(CancelJobs((jobs[3].id,), "enough"))
    twin.now += 5 * SECOND
    progress = (LeaseProgress(jobs[0].id, jobs[0].fence, Progress(0.25)),)
    return Renew("member", (*leases[:3], Lease(jobs[3].id, jobs[3].fence + 7)), LEASE_US, progress)


@case
async def maintain(twin: Twin) -> Op[Any]:
    """Leases to reap, jobs to promote and to expire, results to drop and jobs to prune, all at once."""
    await twin.stock(3, result_ttl_us=SECOND, retention_us=25 * SECOND)
    jobs = await twin.claimed(3)
    await twin.both(twin.exchange(0, Settlement(jobs[0].id, jobs[0].fence, Verb.SUCCEED, b"1"), what="second"))
    later = twin.spec(7, delay_us=SECOND), twin.spec(8, delay_us=100 * SECOND, expires_in_us=SECOND)
    await twin.both(Enqueue(later))
    twin.now += LEASE_US - SECOND
    await twin.both(Maintain(LEASE_US))  # the floor comes near, so that the next step is no jump of the clock
    twin.now += 2 * SECOND
    return Maintain(LEASE_US)


@case
async def cancel(twin: Twin) -> Op[Any]:
    await twin.stock(3)
    jobs = await twin.claimed(1)
    return CancelJobs((jobs[0].id, twin.spec(1).id, twin.spec(2).id, "nobody"), "enough")


@case
async def retry(twin: Twin) -> Op[Any]:
    await twin.stock(3)
    jobs = await twin.claimed(2)
    ends = [Settlement(job.id, job.fence, Verb.FAIL, error=FAILURE) for job in jobs]
    await twin.both(twin.exchange(0, *ends, what="second"))
    return RetryJobs((jobs[0].id, jobs[1].id, twin.spec(2).id))


@case
async def delete(twin: Twin) -> Op[Any]:
    await twin.stock(3)
    jobs = await twin.claimed(1)
    return DeleteJobs((jobs[0].id, twin.spec(1).id, twin.spec(2).id))


@case
async def update(twin: Twin) -> Op[Any]:
    await twin.stock(1)
    return UpdateJob(twin.spec(0).id, priority=7, delay_us=3 * SECOND)


@case
async def pause(twin: Twin) -> Op[Any]:
    return PauseQueue(twin.name("q"))


@case
async def resume(twin: Twin) -> Op[Any]:
    await twin.both(PauseQueue(twin.name("q")))
    return ResumeQueue(twin.name("q"))


@case
async def purge(twin: Twin) -> Op[Any]:
    await twin.stock(5)
    await twin.claimed(1)
    return PurgeQueue(twin.name("q"))


@case
async def prune(twin: Twin) -> Op[Any]:
    await twin.stock(3)
    await twin.both(CancelJobs((twin.spec(0).id, twin.spec(1).id)))
    twin.now += SECOND
    return Prune(SECOND, (State.CANCELLED,))
