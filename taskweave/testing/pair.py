"""A store beside the queue machine: each op goes to both at the same instant, and every answer is compared.

The machine (core.queue) is what a store means, so a check is no more than a list of ops that walks into some corner,
and the comparison is the same for all. After each op that may write, both are dumped and compared as a whole.

A pair is used by many checks one after the other. `clear` empties it in between by ops that are compared as well, so
that each check starts without jobs, but with a store that has lived.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

from taskweave.abc import TaskStore
from taskweave.core.ids import MINUTE, SECOND, Fence, JobId, Micros
from taskweave.core.job import Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.verbs import (
    Claimed,
    Count,
    DeleteJobs,
    Dump,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    Export,
    Find,
    Found,
    Lease,
    Load,
    Maintain,
    Maintained,
    Op,
    PurgeQueue,
    Renew,
    Renewed,
    ResumeQueue,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import TaskweaveError
from taskweave.testing.comparing import Disagreement, Refused, comparable, difference, refusal_of

A = TypeVar("A")

START: Final[Micros] = 50 * SECOND  # of the walk's own time, which is not the machine's
LEASE_US: Final[Micros] = 30 * SECOND
GAP_US: Final[Micros] = MINUTE  # between two checks
READS: Final = (Load, Find, Count, Export, TakeDump)
TASK, QUEUE, MEMBER = "task", "queue", "member"


class Pair:
    """Whatever is asked of it, the store's answer and its dump are those of the queue machine, or Disagreement."""

    def __init__(self, store: TaskStore, model: Queue | None = None, now: Micros = START, seed: int = 0) -> None:
        self.store = store
        self.model = Queue() if model is None else model
        self.now = now
        self.seed = seed  # of what a check chooses at random
        self.ops = 0
        self._specs = 0
        self._claims = 0

    # --- asking both ---

    async def ask(self, op: Op[Any], *, on: TaskStore | None = None) -> Any:
        """The answer, or the refusal, on which both agree. Raises Disagreement."""
        repeat = isinstance(op, Exchange) and op.claim_id in self.model._table.claims
        expected = self._expected(op)
        found = await self._found(op, on or self.store)
        self._same(op, comparable(expected, repeat=repeat), comparable(found, repeat=repeat))
        if not isinstance(op, READS):
            await self.same_dump(on)
        return found

    async def apply(self, op: Op[A], *, on: TaskStore | None = None) -> A:
        """The answer on which both agree; a refusal is none. Raises Disagreement."""
        answer = await self.ask(op, on=on)
        if isinstance(answer, Refused):
            raise Disagreement(f"both refuse {_named(op)} ({answer.error}), and the check does not expect it")
        return cast(A, answer)

    async def refuses(self, op: Op[Any], error: type[TaskweaveError]) -> None:
        """Both refuse the op with this error, and are left as they were. Raises Disagreement."""
        answer = await self.ask(op)
        meets(getattr(answer, "error", None), error.__name__, f"the refusal of {_named(op)}")

    async def same_dump(self, on: TaskStore | None = None) -> Dump:
        expected: Dump = self._expected(TakeDump())
        found = await self._found(TakeDump(), on or self.store)
        self._same(TakeDump(), comparable(expected), comparable(found))
        return expected

    def _expected(self, op: Op[Any]) -> Any:
        self.ops += 1
        try:
            return self.model.apply(op, self.now)
        except TaskweaveError as error:
            return refusal_of(error)

    async def _found(self, op: Op[Any], store: TaskStore) -> Any:
        try:
            return await store.apply(op, at=self.now)
        except TaskweaveError as error:
            return refusal_of(error)

    def _same(self, op: Op[Any], expected: Any, found: Any) -> None:
        where = difference(expected, found)
        if where is not None:
            raise Disagreement(f"{_named(op)} at {self.now}: {where}")

    # --- the ops that checks are made of ---

    def passes(self, span_us: Micros) -> Micros:
        """Time passes; the new instant."""
        self.now += span_us
        return self.now

    def new(self, **given: Any) -> Spec:
        """A spec with an id of its own; what is not given is of no account."""
        self._specs += 1
        id = given.pop("id", f"job-{self._specs:06}")
        usual: dict[str, Any] = {"task": TASK, "queue": QUEUE, "payload": b"{}"}
        return Spec(id, **(usual | given))

    async def enqueue(self, *specs: Spec) -> tuple[Enqueued, ...]:
        return await self.apply(Enqueue(specs))

    async def add(self, **given: Any) -> JobId:
        """One new job."""
        (answer,) = await self.enqueue(self.new(**given))
        return answer.id

    def new_claim(self) -> str:
        self._claims += 1
        return f"claim-{self._claims}"

    def exchange(self, want: int, **given: Any) -> Exchange:
        """An exchange as most checks need it."""
        usual: dict[str, Any] = {"member": MEMBER, "queues": (QUEUE,), "tasks": (TASK,), "lease_us": LEASE_US}
        claim_id = given.pop("claim_id", None) or self.new_claim()
        asked: dict[str, Any] = usual | given
        return Exchange(claim_id=claim_id, want=want, **asked)

    async def claim(self, want: int = 1, **given: Any) -> tuple[Claimed, ...]:
        return (await self.apply(self.exchange(want, **given))).claimed

    async def start(self, **given: Any) -> Lease:
        """A new job that runs; its lease."""
        id = await self.add(**given)
        queue, task = given.get("queue", QUEUE), given.get("task", TASK)
        taken = await self.claim(queues=(queue,), tasks=(task,), want=100, fragile=100)
        return next(Lease(job.id, job.fence) for job in taken if job.id == id)

    async def settle(self, *settlements: Settlement, want: int = 0) -> Exchanged:
        return await self.apply(self.exchange(want, settle=settlements))

    async def ends(self, lease: Lease, verb: Verb, **given: Any) -> bool:
        """This attempt ends so; whether the store took it."""
        return not (await self.settle(Settlement(lease.id, lease.fence, verb, **given))).refused

    async def renew(self, *leases: Lease, lease_us: Micros = LEASE_US, **given: Any) -> Renewed:
        return await self.apply(Renew(given.pop("member", MEMBER), leases, lease_us, **given))

    async def maintain(self, limit: int = 1_000, lease_us: Micros = LEASE_US) -> Maintained:
        return await self.apply(Maintain(lease_us, limit))

    async def state(self, id: JobId) -> State | None:
        (job,) = await self.apply(Load((id,)))
        return None if job is None else job.state

    async def fence(self, id: JobId) -> Fence:
        (job,) = await self.apply(Load((id,)))
        return 0 if job is None else job.life.fence

    async def pages(self, op: Find) -> list[JobId]:
        """All pages, each store walking by its own cursors, which are no part of the semantics."""
        expected = self.model.apply(op, self.now)
        found: Found = await self.store.apply(op, at=self.now)
        self._same(op, comparable(expected), comparable(found))
        seen = [job.id for job in found.jobs]
        if found.next is None or expected.next is None:
            return seen
        return seen + await self._rest(op, expected.next, found.next)

    async def _rest(self, op: Find, after: int, cursor: int) -> list[JobId]:
        seen: list[JobId] = []
        while True:
            expected = self.model.apply(_after(op, after), self.now)
            found: Found = await self.store.apply(_after(op, cursor), at=self.now)
            self._same(op, comparable(expected), comparable(found))
            seen += [job.id for job in found.jobs]
            if found.next is None or expected.next is None:
                return seen
            after, cursor = expected.next, found.next

    async def clear(self) -> None:
        """No job, no pause and no key is left, and maintenance has just been: as a check wants to begin."""
        dump = await self.same_dump()
        self.passes(GAP_US)
        running = [job for job in dump.jobs if job.state is State.RUNNING]
        if running:
            await self.settle(*[Settlement(job.id, job.life.fence, Verb.FAIL) for job in running])
        for queue in dump.paused:
            await self.apply(ResumeQueue(queue))
        for queue in {job.spec.queue for job in dump.jobs}:
            while await self.apply(PurgeQueue(queue)):
                continue
        rest = tuple([job.id for job in (await self.same_dump()).jobs])
        for start in range(0, len(rest), 1_000):
            await self.apply(DeleteJobs(rest[start : start + 1_000]))
        await self.maintain()


def _after(op: Find, after: int) -> Find:
    return Find(op.states, op.queue, op.task, op.tags, after, op.limit)


def _named(op: Op[Any]) -> str:
    text = ascii(op)
    return text if len(text) <= 300 else f"{text[:299]}…"


def meets(found: Any, wanted: Any, what: str) -> None:
    """What a check is about has really come about; else it would prove nothing. Raises Disagreement."""
    if found != wanted:
        raise Disagreement(f"{what}: {found!r}, must be {wanted!r}")
