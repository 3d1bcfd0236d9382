"""A store that is out of reach for a while, before and after applying: nothing lost, nothing twice, and back at work.

Promises under test: what was acknowledged runs (I1), as one job (I2), settled once (I8), and a worker recovers
by itself (I30). The harness is around the real stores; each test asserts that its faults really happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from flaky import Faults, Flaky

from taskweave import App, Ctx, inject
from taskweave.abc import TaskStore
from taskweave.core.job import Job, State
from taskweave.core.verbs import TakeDump
from taskweave.exceptions import StoreUnavailable
from taskweave.stores.memory import MemoryTaskStore
from taskweave.stores.sqlite import SQLiteTaskStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> TaskStore:
    return MemoryTaskStore() if request.param == "memory" else SQLiteTaskStore(tmp_path / "jobs.db")


async def jobs(inner: TaskStore) -> list[Job]:
    """Read around the faults."""
    async with inner.another() as store:
        return list((await store.apply(TakeDump())).jobs)


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(40):
        while not await condition():
            await anyio.sleep(0.02)


@asynccontextmanager
async def worker(app: App, **options: Any) -> AsyncIterator[None]:
    given = {"lease": "2s", "maintain": "50ms", "poll": "50ms", "grace": "10s", **options}
    async with app.worker(**given):
        yield


# --- a client -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [("after",), ("before",), ("after", "after", "before")])
async def test_an_enqueue_whose_answer_was_lost_is_sent_again_and_makes_one_job(
    inner: TaskStore, places: tuple[Any, ...]
) -> None:
    faults = Faults.lost("enqueue", *places)
    app = App(Flaky(inner, faults))

    @app.task(name="note")
    async def note(n: int) -> None: ...

    async with app:
        handle = await note.enqueue(1)
        many = await note.enqueue_many([(2,), (3,)])
    assert not handle.deduplicated, "it is the caller's own job, although the repeat found it there"
    assert [job.id for job in await jobs(inner)] == [handle.id, *(each.id for each in many)]
    assert sum(faults.injected.values()) == len(places)


async def test_an_enqueue_that_never_gets_an_answer_says_that_nobody_knows(inner: TaskStore) -> None:
    faults = Faults.lost("enqueue", "after", "before", "before", "before")
    app = App(Flaky(inner, faults))

    @app.task(name="note")
    async def note() -> None: ...

    async with app:
        with pytest.raises(StoreUnavailable) as caught:
            await note.enqueue()
    assert caught.value.applied == "unknown"
    assert sum(faults.injected.values()) == 4
    assert len(await jobs(inner)) == 1


async def test_a_repeat_that_finds_a_unique_holder_is_told_so(inner: TaskStore) -> None:
    """The own id is "created", another job's is not."""
    faults = Faults.lost("enqueue", "after")
    app = App(Flaky(inner, faults))

    @app.task(name="note")
    async def note() -> None: ...

    async with app:
        first = await note.call().enqueue(key="one")
        again = await note.call().enqueue(key="one")
    assert (first.deduplicated, again.deduplicated) == (False, True)
    assert first.id == again.id
    assert len(await jobs(inner)) == 1


# --- a worker -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_an_outage_while_jobs_run_loses_nothing_and_settles_nothing_twice(inner: TaskStore, seed: int) -> None:
    """Every op of client, worker, keeper and maintenance may fail, until 40 have; leases outlast it."""
    faults = Faults.drawn(seed, 0.4, 40)
    app = App(Flaky(inner, faults))
    starts: Counter[int] = Counter()

    @app.task(name="step")
    async def step(n: int) -> int:
        starts[n] += 1
        await anyio.sleep(0.002)
        return n * n

    @app.task(name="plain", run_in="thread")
    def plain(n: int) -> int:
        starts[n] += 1
        return n * n

    sent: list[int] = []

    async def send() -> None:
        for n in range(60):
            with anyio.fail_after(30):
                while n not in sent:
                    try:
                        await (step if n % 2 else plain).options(id=str(UUID(int=n))).enqueue(n)
                    except StoreUnavailable:
                        continue  # nobody knows: the same id makes the repeat harmless
                    sent.append(n)

    async def finished() -> bool:
        found = await jobs(inner)
        return len(found) == 60 and all(job.finished for job in found)

    async with worker(app, concurrency=8, lease="60s"), anyio.create_task_group() as group:
        group.start_soon(send)
        await until(finished)
    assert sum(faults.injected.values()) > 10
    assert {where for _, where in faults.injected} == {"before", "after"}
    found = await jobs(inner)
    assert {job.state for job in found} == {State.SUCCEEDED}
    assert starts == Counter(range(60)), "no lease was lost, so nothing ran twice"
    for job in found:
        assert (job.life.attempt, job.life.fence, job.life.history) == (1, 1, ())
        assert job.life.end is not None
        assert job.life.end.result == str(UUID(job.id).int ** 2).encode()


async def test_a_worker_is_back_at_work_after_an_outage_of_everything(inner: TaskStore) -> None:
    """I30: no op is answered for a while, then a job that came meanwhile, and one that came after, are run."""
    down = [False]
    faults = Faults(lambda _: "before" if down[0] else None)
    app = App(Flaky(inner, faults))
    ran: list[str] = []

    @app.task(name="note")
    async def note(word: str) -> None:
        ran.append(word)

    clear = App(inner)
    clear.task(note.fn, name="note")

    async def failed() -> bool:
        return faults.injected["exchange", "before"] >= 3

    async def both() -> bool:
        return len(ran) == 2

    async with worker(app), clear:
        down[0] = True
        await clear.enqueue("note", "meanwhile")
        await until(failed)
        down[0] = False
        await clear.enqueue("note", "after")
        await until(both)
    assert sorted(ran) == ["after", "meanwhile"]
    assert {job.state for job in await jobs(inner)} == {State.SUCCEEDED}


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_cancel_while_the_exchange_is_under_way_is_obeyed_once(inner: TaskStore, where: Any) -> None:
    """The exchange that would claim or settle is lost while an operator cancels: the job ends cancelled, once."""
    faults = Faults.lost("exchange")
    app = App(Flaky(inner, faults))
    begun = anyio.Event()
    ended: list[str] = []

    @app.task(name="long")
    async def long() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cleaned")

    async def finished() -> bool:
        return all(job.finished for job in await jobs(inner))

    async with worker(app):
        handle = await long.enqueue()
        with anyio.fail_after(30):
            await begun.wait()
        left = [where, where]
        faults.plan = lambda op: left.pop() if left and op.name == "exchange" else None
        assert await app.cancel(handle, "enough")
        await until(finished)
    assert faults.injected["exchange", where] == 2
    (job,) = await jobs(inner)
    assert (job.state, job.life.end and job.life.end.reason) == (State.CANCELLED, "enough")
    assert ended == ["cleaned"]


async def test_what_a_draining_worker_enqueues_is_there_and_left_to_others(inner: TaskStore) -> None:
    """Through the client and through Ctx, with the store failing meanwhile; the drain still ends in time."""
    faults = Faults.lost("nothing")
    app = App(Flaky(inner, faults))
    begun, go = anyio.Event(), anyio.Event()

    @app.task(name="child")
    async def child(n: int) -> None: ...

    @app.task(name="parent")
    async def parent(ctx: Ctx = inject()) -> None:
        begun.set()
        await go.wait()
        await child.enqueue(1)
        ctx.enqueue(child.call(2))

    async with app:
        await parent.enqueue()
        executor = app.executor(poll="50ms", grace="20s")
        async with anyio.create_task_group() as group:
            group.start_soon(executor.run)
            with anyio.fail_after(30):
                await begun.wait()
                executor.stop()
                drawn = Faults.drawn(1, 0.6, 6).plan
                faults.plan = drawn
                go.set()
            with anyio.move_on_after(40) as late:
                while executor._driver is not None:
                    await anyio.sleep(0.02)
            assert not late.cancelled_caught
    assert sum(faults.injected.values()) > 0
    states = sorted((job.spec.task, job.state) for job in await jobs(inner))
    assert states == [("child", State.READY), ("child", State.READY), ("parent", State.SUCCEEDED)]


class Hanging(Flaky):
    """Renewals are answered by nothing but the deadline of a store."""

    asked = 0

    async def apply(self, op: Any, *, at: Any = None) -> Any:
        if op.name != "renew":
            return await self.inner.apply(op, at=at)
        Hanging.asked += 1
        with anyio.move_on_after(HANG_S, shield=True):
            await anyio.Event().wait()
        raise StoreUnavailable(self.url, "planted silence", "unknown")

    def another(self) -> Hanging:
        return Hanging(self.inner.another(), self.faults)


HANG_S, LEASE_S = 5.0, 1.5


async def test_a_run_is_cancelled_in_time_although_its_renewal_hangs() -> None:
    """I4: the watch over leases does not wait for a store that says nothing."""
    app = App(Hanging(MemoryTaskStore(), Faults(lambda _: None)))
    took: list[float] = []
    over = anyio.Event()

    @app.task(name="long")
    async def long() -> None:
        began = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            took.append(anyio.current_time() - began)
            over.set()

    Hanging.asked = 0
    async with worker(app, lease=f"{LEASE_S}s", maintain="60s"):
        await long.enqueue()
        with anyio.fail_after(30):
            await over.wait()
    assert Hanging.asked == 1, "it was asked once, and is still under way"
    assert took[0] < HANG_S - 1.5, f"cancelled after {took[0]:.1f} s, with a lease of {LEASE_S:g} s"
