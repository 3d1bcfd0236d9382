"""The memory store: the queue machine from several tasks, threads and loops at once, with wake-ups."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from attrs import define

from taskweave._bridge import poster
from taskweave.abc import Listens, TaskStore
from taskweave.core.ids import SECOND
from taskweave.core.job import Spec, State, Verb
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    Enqueue,
    Exchange,
    Load,
    Maintain,
    Op,
    PauseQueue,
    Restore,
    ResumeQueue,
    RetryJobs,
    Settlement,
    TakeDump,
    UpdateJob,
)
from taskweave.exceptions import StoreFull
from taskweave.stores.clock import SystemClock
from taskweave.stores.memory import OPS_PER_CHECKPOINT, MemoryTaskStore
from taskweave.stores.wakeups import Listener

pytestmark = pytest.mark.anyio
LEASE_US = 30 * SECOND
BYTES_MAX = 1_500  # of a queued job


@define
class HandClock:
    at: int = 1_000 * SECOND

    def wall(self) -> int:
        return self.at


def spec(id: str, queue: str = "q", **rest: Any) -> Spec:
    return Spec(id, "t", queue, b"{}", **rest)


def claim(claim_id: str, *settle: Settlement, want: int = 9) -> Exchange:
    return Exchange("m", claim_id, want, ("q",), ("t",), LEASE_US, settle)


async def heard(listener: Listener) -> bool:
    """Whether a wake-up is there, once everything posted to the loop so far has arrived."""
    woken, arrived = anyio.Event(), anyio.Event()

    async def waits() -> None:
        await listener.wait()
        woken.set()

    async with anyio.create_task_group() as group:
        group.start_soon(waits)
        poster()(arrived.set)
        await arrived.wait()
        for _ in range(5):
            await checkpoint()
        group.cancel_scope.cancel()
    return woken.is_set()


async def test_it_is_a_store_that_listens() -> None:
    async with MemoryTaskStore() as opened:
        store: TaskStore = opened
        assert store.url == "memory://"
        assert isinstance(store, Listens)


async def test_time_is_the_clocks_unless_it_is_given() -> None:
    clock = HandClock()
    store = MemoryTaskStore(clock)
    await store.apply(Enqueue((spec("a", delay_us=5),)))
    assert (await store.apply(claim("c1"))).claimed == ()
    assert (await store.apply(claim("c2"), at=clock.at + 5)).now == clock.at + 5
    before = SystemClock().wall()
    assert before <= (await MemoryTaskStore().apply(Count())).now <= SystemClock().wall()


async def test_its_settings_reach_the_machine() -> None:
    store = MemoryTaskStore(HandClock(), jobs_max=2, aging="10us")
    await store.apply(Enqueue((spec("old"),)))
    await store.apply(Enqueue((spec("new", priority=1),)), at=1_000 * SECOND + 11)
    answer = await store.apply(claim("c"), at=1_001 * SECOND)
    assert [job.id for job in answer.claimed] == ["old", "new"]
    with pytest.raises(StoreFull, match="nothing was stored") as caught:
        await store.apply(Enqueue((spec("b"),)))
    assert (caught.value.applied, caught.value.transient) == ("no", True)


async def test_another_store_is_on_the_same_jobs() -> None:
    store = MemoryTaskStore(HandClock())
    await store.apply(Enqueue((spec("a"),)))
    other = store.another()
    (job,) = await other.apply(Load(("a",)))
    assert job is not None
    async with store.listen(("q",)) as wakeups:
        await other.apply(Enqueue((spec("b"),)))
        assert await heard(wakeups)


async def test_several_threads_and_loops_lose_nothing() -> None:
    store = MemoryTaskStore()
    threads, each = 4, 300

    async def produce_and_run(number: int) -> int:
        mine, done, ended = store.another(), 0, ()
        for index in range(each):
            await mine.apply(Enqueue((spec(f"{number}-{index}"),)))
            answer = await mine.apply(claim(f"c{number}-{index}", *ended, want=2))
            ended = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, b"1") for job in answer.claimed)
            done += len(ended)
        await mine.apply(claim("", *ended, want=0))
        return done

    counts: list[int] = []

    def thread(number: int) -> None:
        counts.append(anyio.run(produce_and_run, number, backend="asyncio"))

    async with anyio.create_task_group() as group:
        for number in range(threads):
            group.start_soon(anyio.to_thread.run_sync, thread, number)
    stats = await store.apply(Count())
    assert sum(counts) == stats.queues[0].count(State.SUCCEEDED) == threads * each
    store._shared.queue.check()


async def test_a_loop_of_ops_leaves_room_for_others() -> None:
    store = MemoryTaskStore()
    ran = anyio.Event()

    async def other() -> None:
        ran.set()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for index in range(4 * OPS_PER_CHECKPOINT):
            await store.apply(Enqueue((spec(f"j{index}"),)))
        assert ran.is_set()


async def test_a_cancelled_op_has_not_happened() -> None:
    store = MemoryTaskStore()
    done: list[int] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        for index in range(2 * OPS_PER_CHECKPOINT):
            await store.apply(Enqueue((spec(f"j{index}"),)))
            done.append(index)
    assert scope.cancelled_caught
    assert len((await store.apply(TakeDump())).jobs) == len(done) == OPS_PER_CHECKPOINT - 1


# --- wake-ups -----------------------------------------------------------------------------------------------------


async def test_wakeups_are_coalesced_and_end_with_the_listener() -> None:
    store = MemoryTaskStore()
    async with store.listen(("q",)) as wakeups:
        assert not await heard(wakeups)
        for index in range(5):
            await store.apply(Enqueue((spec(f"j{index}"),)))
        assert await heard(wakeups)
        assert not await heard(wakeups)
    await store.apply(Enqueue((spec("late"),)))
    assert not await heard(wakeups)


async def test_a_wakeup_comes_from_any_thread() -> None:
    store = MemoryTaskStore()

    def thread() -> None:
        anyio.run(store.another().apply, Enqueue((spec("a"),)), backend="asyncio")

    async with store.listen(("q",)) as wakeups:
        worker = threading.Thread(target=thread)
        worker.start()
        with anyio.fail_after(10):
            await wakeups.wait()
        await anyio.to_thread.run_sync(worker.join)


async def test_a_listener_whose_loop_has_ended_hurts_nobody() -> None:
    store = MemoryTaskStore()
    left: list[Any] = []

    async def listens_and_dies() -> None:
        manager = store.listen(("q",))
        await manager.__aenter__()
        left.append(manager)  # kept, so that it is never left

    await anyio.to_thread.run_sync(lambda: anyio.run(listens_and_dies, backend="asyncio"))
    await store.apply(Enqueue((spec("a"),)))
    assert len((await store.apply(TakeDump())).jobs) == 1
    left.clear()


def ended(verb: Verb, **rest: Any) -> Exchange:
    return claim("", Settlement("run", 1, verb, **rest), want=0)


WAKES: list[tuple[str, Op[Any], bool, bool]] = [
    ("a new job", Enqueue((spec("b"),)), True, False),
    ("a job that is there already", Enqueue((spec("run"),)), False, False),
    ("a job of another queue", Enqueue((spec("b", "other"),)), False, False),
    ("an empty exchange", claim("", want=0), False, False),
    ("a success", ended(Verb.SUCCEED, result=b"1"), False, True),
    ("a retry", ended(Verb.RETRY), True, True),
    ("a success that spawns", ended(Verb.SUCCEED, spawn=(spec("b"),)), True, True),
    ("an operator's retry", RetryJobs(("dead",)), True, True),
    ("an update", UpdateJob("late", 1), True, True),
    ("a cancellation", CancelJobs(("run",)), True, True),
    ("a resumed queue", ResumeQueue("q"), True, False),
    ("another queue resumed", ResumeQueue("other"), False, False),
    ("restored jobs", Restore(()), True, True),
    ("a paused queue", PauseQueue("q"), False, False),
    ("a read", Count(), False, False),
    ("an idle maintenance", Maintain(LEASE_US), False, False),
]


@pytest.mark.parametrize(("op", "worker", "waiter"), [row[1:] for row in WAKES], ids=[row[0] for row in WAKES])
async def test_who_is_woken_by_what(op: Op[Any], worker: bool, waiter: bool) -> None:
    """A worker listens to its queues; one that waits for results listens to none."""
    store = MemoryTaskStore(HandClock())
    await store.apply(Enqueue((spec("run", max_attempts=2), spec("dead"), spec("late", delay_us=9))))
    await store.apply(CancelJobs(("dead",)))
    await store.apply(claim("c"))
    await store.apply(PauseQueue("q"))
    async with store.listen(("q", "r")) as works, store.listen(()) as waits:
        await store.apply(op)
        assert (await heard(works), await heard(waits)) == (worker, waiter)


async def test_maintenance_wakes_for_what_it_made_ready() -> None:
    clock = HandClock()
    store = MemoryTaskStore(clock)
    await store.apply(Enqueue((spec("run"), spec("late", delay_us=SECOND))))
    await store.apply(claim("c"))
    async with store.listen(("q",)) as works, store.listen(()) as waits:
        clock.at += SECOND
        await store.apply(Maintain(LEASE_US))
        assert (await heard(works), await heard(waits)) == (True, False)
        clock.at += LEASE_US
        await store.apply(Maintain(LEASE_US))
        assert (await heard(works), await heard(waits)) == (True, True)


# --- size ---------------------------------------------------------------------------------------------------------


async def test_a_queued_job_takes_less_than_a_kilobyte_and_a_half() -> None:
    store, count = MemoryTaskStore(HandClock()), 10_000
    tracemalloc.start()
    try:
        for start in range(0, count, 1_000):
            jobs = tuple(
                Spec(f"{number:036d}", "t", "q", b'[["%032d"],{}]' % number, delay_us=1 + number % 7)
                for number in range(start, start + 1_000)
            )
            await store.apply(Enqueue(jobs))
            del jobs
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / count <= BYTES_MAX, f"{taken / count:.0f} bytes a job"
