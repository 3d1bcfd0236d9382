"""Sixteen clients at once: producers, workers, a worker that is too slow, an operator and maintenance, on several
stores that share the same jobs. What they saw is recorded and judged when they have finished.

Nobody waits for anything but the store, so that the calls meet inside it; leases are short enough to be lost. The
workload ends when every producer has enqueued its jobs and nothing is left to run, or after DRAIN_S.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Final, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from taskweave.abc import TaskStore
from taskweave.core.ids import MILLISECOND, SECOND
from taskweave.core.job import Progress, Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Find,
    Lease,
    LeaseProgress,
    Load,
    Maintain,
    Op,
    PauseQueue,
    Renew,
    ResumeQueue,
    Settlement,
    TakeDump,
    UpdateJob,
)
from taskweave.exceptions import StoreError
from taskweave.testing.comparing import Disagreement
from taskweave.testing.history import History, Recorder
from taskweave.testing.judging import JUDGES, judging
from taskweave.testing.several import Asked, Fresh

A = TypeVar("A")

WORK: Final = "sixteen_clients_at_once"
STORES: Final = 4
PRODUCERS, WORKERS, SLOW, OPERATORS, KEEPERS = 5, 6, 2, 2, 1  # sixteen clients
JOBS_OF_A_PRODUCER: Final = 40
KEYS: Final = 3
LEASE_US: Final = 150 * MILLISECOND
DRAIN_S: Final = 30.0
SENT_MAX: Final = 100  # times that one op is sent while the store cannot be reached
AGAIN_S: Final = 0.05
SEEN_AT_LEAST: Final = 10  # claims and ends, below which a run has shown nothing
QUEUES: Final = ("a", "b")
TASKS: Final = ("x", "y")


async def check_concurrent(run: Fresh) -> AsyncGenerator[Asked]:
    """One workload, then each judge as a check of its own."""
    history = History([])

    async def work() -> None:
        async with run.fresh() as store:
            recorded = await workload(store, getattr(run, "seed", 0))
            history.events, history.dump, history.stats = recorded.events, recorded.dump, recorded.stats

    yield WORK, ("I3",), work
    for name, (judge, proves) in JUDGES.items():
        yield f"history_{name}", proves, judging(judge, history)


def concurrent_names() -> list[str]:
    return [WORK, *(f"history_{name}" for name in JUDGES)]


async def workload(store: TaskStore, seed: int, *, beside: Callable[[], Awaitable[None]] | None = None) -> History:
    """What the clients saw, and what the store holds at the end. Raises Disagreement where it showed nothing.

    `beside` harms the store meanwhile; the run then lasts at least as long.
    """
    recorder = Recorder()
    async with AsyncExitStack() as exits:
        stores = [store, *[await exits.enter_async_context(store.another()) for _ in range(STORES - 1)]]
        site = Site(recorder, stores, seed)
        async with anyio.create_task_group() as group:
            group.start_soon(site.watch)
            if beside is not None:
                site.producing += 1
                group.start_soon(site.harmed, beside)
            for role, number in ROLES.items():
                for _ in range(number):
                    group.start_soon(role, site, site.enter())
        history = History(recorder.events)
        history.dump = await _until_answered(store, TakeDump())
        history.stats = await _until_answered(store, Count())
    if site.ends < SEEN_AT_LEAST:
        raise Disagreement(f"sixteen clients saw only {site.ends} jobs through")
    return history


async def _until_answered(store: TaskStore, op: Op[A]) -> A:
    """The answer; a store that a fault has just hit is asked again for a while."""
    with anyio.fail_after(DRAIN_S):
        while True:
            try:
                return await store.apply(op)
            except StoreError as error:
                if not error.transient:
                    raise
            await anyio.sleep(AGAIN_S)


class Site:
    """What the clients share: the recorder, the stores, and whether there is anything left to do."""

    def __init__(self, recorder: Recorder, stores: list[TaskStore], seed: int) -> None:
        self.recorder = recorder
        self.stores = stores
        self.seed = seed
        self.ids: list[str] = []
        self.clients = 0
        self.producing = 0
        self.ends = 0
        self.over = anyio.Event()

    def enter(self) -> Client:
        self.clients += 1
        return Client(
            self, self.clients, self.stores[self.clients % len(self.stores)], Random(f"{self.seed}-{self.clients}")
        )

    async def harmed(self, beside: Callable[[], Awaitable[None]]) -> None:
        """The run is not over before its faults are."""
        try:
            await beside()
        finally:
            self.producing -= 1

    async def watch(self) -> None:
        """Ends a run that does not end by itself; what it has seen until then is judged all the same."""
        with anyio.move_on_after(DRAIN_S):
            await self.over.wait()
        self.over.set()


class Client:
    """One client: a store, a recorder, and chance of its own."""

    def __init__(self, site: Site, number: int, store: TaskStore, rng: Random) -> None:
        self.site, self.number, self.store, self.rng = site, number, store, rng

    async def ask(self, op: Op[Any]) -> Any:
        """The answer, or None for a refusal; without a sure answer the same op is sent again, as the engine does."""
        for _ in range(SENT_MAX):
            await checkpoint()
            answer = await self.site.recorder.apply(self.number, self.store, op)
            if answer is not None or not self.site.recorder.transient:
                return answer
            await anyio.sleep(AGAIN_S)
        return None


async def _produce(site: Site, client: Client) -> None:
    """Enqueues in small batches; some ids are those of another producer, some keys are everybody's."""
    site.producing += 1
    rng = client.rng
    for number in range(0, JOBS_OF_A_PRODUCER, 2):
        specs = [_spec(f"p{client.number}-{number + each}", rng) for each in range(2)]
        if site.ids and rng.random() < 0.2:
            known = rng.choice(site.ids)
            specs = [*specs[:1], Spec(known, "x", "a", b"again")]
        site.ids += [spec.id for spec in specs]
        await client.ask(Enqueue(tuple({spec.id: spec for spec in specs}.values())))
    site.producing -= 1


def _spec(id: str, rng: Random) -> Spec:
    unique = UniqueKey(f"key {rng.randrange(KEYS)}") if rng.random() < 0.3 else None
    return Spec(
        id,
        rng.choice(TASKS),
        rng.choice(QUEUES),
        id.encode(),
        priority=rng.randrange(3),
        delay_us=rng.choice([0, 0, 0, 20 * MILLISECOND]),
        max_attempts=3,
        max_lost=50,
        unique=unique,
    )


async def _work(site: Site, client: Client) -> None:
    """Claims, settles what it claimed, and now and then sends again what it sent, as after a cut connection."""
    rng, number = client.rng, 0
    settle: tuple[Settlement, ...] = ()
    while not site.over.is_set():
        number += 1
        op = Exchange(
            f"m{client.number}", f"c{client.number}-{number}", rng.choice([1, 2, 4]), QUEUES, TASKS, LEASE_US, settle
        )
        answer = await client.ask(op)
        if answer is not None and rng.random() < 0.15:
            answer = await client.ask(op) or answer
        if answer is None:
            continue
        site.ends += len(settle) - len(answer.refused)
        settle = tuple([_end(Lease(job.id, job.fence), rng) for job in answer.claimed])
        if not answer.claimed:
            await anyio.sleep(0.002)


def _end(lease: Lease, rng: Random) -> Settlement:
    verb = rng.choice([Verb.SUCCEED] * 6 + [Verb.FAIL, Verb.RETRY, Verb.SNOOZE, Verb.RELEASE])
    result = f"{lease.id} {lease.fence}".encode() if verb is Verb.SUCCEED else None
    return Settlement(lease.id, lease.fence, verb, result)


async def _work_slowly(site: Site, client: Client) -> None:
    """Claims and keeps silent until others have its jobs, then settles them all the same, and renews what is lost."""
    for number in range(8):
        op = Exchange(f"m{client.number}", f"s{client.number}-{number}", 2, QUEUES, TASKS, LEASE_US // 3)
        answer = await client.ask(op)
        leases = tuple([Lease(job.id, job.fence) for job in answer.claimed]) if answer is not None else ()
        progress = tuple([LeaseProgress(lease.id, lease.fence, Progress(0.5)) for lease in leases[:1]])
        await client.ask(Renew(f"m{client.number}", leases, LEASE_US // 3, progress))
        await anyio.sleep(LEASE_US / SECOND / 2)
        await client.ask(Renew(f"m{client.number}", leases, LEASE_US // 3))
        ends = tuple([_end(lease, client.rng) for lease in leases])
        late = Exchange(f"m{client.number}", f"t{client.number}-{number}", 0, (), (), LEASE_US, ends)
        await client.ask(late)
        await client.ask(late)


async def _operate(site: Site, client: Client) -> None:
    rng = client.rng
    for _ in range(60):
        id = rng.choice(site.ids) if site.ids else "nobody"
        kind = rng.randrange(8)
        ops: list[Op[Any]] = [
            CancelJobs((id,), "the operator"),
            DeleteJobs((id,)),
            UpdateJob(id, priority=rng.randrange(3)),
            Load((id, "nobody")),
            Find((State.RUNNING,), limit=10),
            Count(),
            PauseQueue("b"),
            ResumeQueue("b"),
        ]
        await client.ask(ops[kind])
    await client.ask(ResumeQueue("b"))


async def _keep(site: Site, client: Client) -> None:
    """Maintenance, until nothing is left that could still run; then the run is over."""
    while not site.over.is_set():
        await client.ask(Maintain(LEASE_US))
        stats = await client.ask(Count())
        if stats is not None and not site.producing:
            live = sum(each.count(State.READY, State.SCHEDULED, State.RUNNING) for each in stats.queues)
            if not live:
                site.over.set()
        await anyio.sleep(0.01)


ROLES: Final[dict[Callable[[Site, Client], Coroutine[Any, Any, None]], int]] = {
    _produce: PRODUCERS,
    _work: WORKERS,
    _work_slowly: SLOW,
    _operate: OPERATORS,
    _keep: KEEPERS,
}
