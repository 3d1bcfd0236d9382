"""Checks that need more than one store, or one that is opened more than once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from taskweave.abc import Listens, TaskStore
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Spec
from taskweave.core.verbs import Count, Dump, Enqueue, Exchange, How, Maintain, PauseQueue, TakeDump
from taskweave.testing.pair import LEASE_US, QUEUE, TASK, Pair, meets

WAKE_S: Final = 5.0
WAKES: Final = 5  # a wake-up is a hint and may be lost; one of so many may not
OPENED_AT_ONCE: Final = 6


class NotAsked(Exception):
    """The store lacks the ability that this check is about; the certificate lists it as skipped."""


class Fresh(Protocol):
    """What opens a store on a namespace of its own."""

    def fresh(self) -> AbstractAsyncContextManager[TaskStore]: ...


Asked: TypeAlias = tuple[str, tuple[str, ...], Callable[[], Awaitable[None]]]
Several: TypeAlias = Callable[[Fresh], Awaitable[None]]


async def check_several(run: Fresh) -> AsyncGenerator[Asked]:
    """Each check with its name and what it proves."""
    for name, (function, proves) in CHECKS.items():
        yield name, proves, _bound(function, run)


def _bound(function: Several, run: Fresh) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await function(run)

    return call


async def two_namespaces_do_not_see_each_other(run: Fresh) -> None:
    async with run.fresh() as one, run.fresh() as other:
        first, second = Pair(one), Pair(other)
        for pair in (first, second):
            await pair.add(queue="a")
            await pair.apply(PauseQueue("a"))
        await second.start()
        await first.apply(Count())
        meets(len(await first.claim(9)), 0, "claimed in the other namespace")
        await first.clear()
        meets(len((await second.same_dump()).jobs), 2, "jobs of the other namespace")
        await second.apply(Count())


async def another_store_sees_the_same_jobs(run: Fresh) -> None:
    async with run.fresh() as store, store.another() as second, second.another() as third:
        pair = Pair(store)
        for number, on in enumerate([second, third, store] * 3):
            spec = pair.new()
            await pair.apply(Enqueue((spec,)), on=on)
            await pair.apply(pair.exchange(number % 2), on=(store, second, third)[number % 3])
        await pair.apply(PauseQueue(QUEUE), on=third)
        for on in (store, second, third):
            await pair.apply(Count(), on=on)
            await pair.apply(pair.exchange(9), on=on)


async def opening_again_keeps_every_job(run: Fresh) -> None:
    async with run.fresh() as store:
        pair = Pair(store)
        await pair.start()
        await pair.add(delay_us=5)
        await pair.apply(PauseQueue("paused"))
        await pair.maintain()
        for _ in range(2):
            async with store.another() as again:
                await pair.same_dump(on=again)
                await pair.apply(Enqueue((pair.new(),)), on=again)
        await pair.same_dump()


async def many_may_open_it_at_once(run: Fresh) -> None:
    async with run.fresh() as store:
        pair = Pair(store)
        await pair.add()

        async def look() -> None:
            async with store.another() as again:
                await pair.same_dump(on=again)

        async with anyio.create_task_group() as group:
            for _ in range(OPENED_AT_ONCE):
                group.start_soon(look)


async def another_thread_may_use_it(run: Fresh) -> None:
    """As the keeper of a worker does, which renews leases while a task blocks the event loop."""
    async with run.fresh() as store:
        pair = Pair(store)
        await pair.add()
        expected = await pair.same_dump()
        dump = await anyio.to_thread.run_sync(_dump_in_thread, store.another(), pair.now)
        meets([job.id for job in dump.jobs], [job.id for job in expected.jobs], "jobs seen in the thread")


def _dump_in_thread(store: TaskStore, now: Micros) -> Dump:
    async def look() -> Dump:
        async with store:
            return await store.apply(TakeDump(), at=now)

    return anyio.run(look)


async def its_own_clock_is_the_time_of_day(run: Fresh) -> None:
    """Store time comes from the store where it is not given, never falls, and counts from 1970."""
    async with run.fresh() as store, store.another() as second:
        seen = [(await (store, second)[number % 2].apply(Count())).now for number in range(6)]
        meets(seen, sorted(seen), "store time in the order of asking")
        meets(seen[0] > 1_600_000_000 * SECOND, True, "store time lies after the year 2020")
        spec = Spec("now", TASK, QUEUE, b"", delay_us=3_600 * SECOND)
        await store.apply(Enqueue((spec,)))
        (job,) = (await store.apply(TakeDump())).jobs
        meets(job.life.run_at - job.created_at, spec.delay_us, "a delay, resolved by the store")
        meets(seen[-1] <= job.created_at, True, "created after what was seen before")


async def its_address_holds_no_password(run: Fresh) -> None:
    async with run.fresh() as store, store.another() as second:
        for each in (store, second):
            meets(urlsplit(each.url).password in (None, "", "***"), True, "a password in the url")
            meets("://" in each.url, True, "the url is an address")


async def an_op_sent_twice_at_once_is_done_once(run: Fresh) -> None:
    async with run.fresh() as store, store.another() as second:
        specs = tuple([Spec(f"twice-{number}", TASK, QUEUE, b"") for number in range(20)])
        answers: list[Any] = []

        async def send(on: TaskStore, op: Any) -> None:
            answers.append(await on.apply(op))

        async with anyio.create_task_group() as group:
            for on in (store, second, store, second):
                group.start_soon(send, on, Enqueue(specs))
        created = [sum(one.how is How.CREATED for one in answer) for answer in answers]
        meets(sorted(created), [0, 0, 0, 20], "jobs made by each of four equal enqueues")
        answers.clear()
        claim = Exchange("m", "the same claim", 5, (QUEUE,), (TASK,), LEASE_US)
        async with anyio.create_task_group() as group:
            for on in (store, second, store, second):
                group.start_soon(send, on, claim)
        taken = {job.id for answer in answers for job in answer.claimed}
        meets((len(taken), [len(answer.claimed) for answer in answers]), (5, [5] * 4), "jobs of four equal claims")


async def maintenance_by_two_at_once_does_no_harm(run: Fresh) -> None:
    async with run.fresh() as store, store.another() as second:
        specs = tuple([Spec(f"j{number}", TASK, QUEUE, b"", delay_us=1) for number in range(50)])
        await store.apply(Enqueue(specs))
        promoted: list[int] = []

        async def keep(on: TaskStore) -> None:
            promoted.append((await on.apply(Maintain(LEASE_US))).promoted)

        async with anyio.create_task_group() as group:
            for on in (store, second, store, second):
                group.start_soon(keep, on)
        promoted.append((await store.apply(Maintain(LEASE_US))).promoted)
        meets(sum(promoted), 50, "promoted, each once")


async def a_listener_is_woken_by_an_enqueue(run: Fresh) -> None:
    """By the same store, and by another one on the same jobs; skipped where the store does not listen."""
    async with run.fresh() as store, store.another() as second:
        if not isinstance(store, Listens):
            raise NotAsked
        for on in (store, second):
            async with store.listen((QUEUE,)) as wakeups:
                woken = False
                for number in range(WAKES):
                    await on.apply(Enqueue((Spec(f"{on is store}-{number}", TASK, QUEUE, b""),)))
                    with anyio.move_on_after(WAKE_S / WAKES):
                        await wakeups.wait()
                        woken = True
                        break
                meets(woken, True, f"a wake-up within {WAKE_S:g} s")


CHECKS: Final[dict[str, tuple[Several, tuple[str, ...]]]] = {
    "two_namespaces_do_not_see_each_other": (two_namespaces_do_not_see_each_other, ("I26",)),
    "another_store_sees_the_same_jobs": (another_store_sees_the_same_jobs, ("I1", "I26")),
    "opening_again_keeps_every_job": (opening_again_keeps_every_job, ("I1",)),
    "many_may_open_it_at_once": (many_may_open_it_at_once, ("I1",)),
    "another_thread_may_use_it": (another_thread_may_use_it, ("I1",)),
    "its_own_clock_is_the_time_of_day": (its_own_clock_is_the_time_of_day, ("I14", "I27")),
    "its_address_holds_no_password": (its_address_holds_no_password, ("I25",)),
    "an_op_sent_twice_at_once_is_done_once": (an_op_sent_twice_at_once_is_done_once, ("I2", "I3")),
    "maintenance_by_two_at_once_does_no_harm": (maintenance_by_two_at_once_does_no_harm, ("I5",)),
    "a_listener_is_woken_by_an_enqueue": (a_listener_is_woken_by_an_enqueue, ("I30",)),
}
