"""Waiting for results: every end has its value or its error, waiters share queries, and nothing stays behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

from taskweave import (
    Abort,
    App,
    Cancel,
    Ctx,
    IllegalTransition,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    JobNotFound,
    MemoryTaskStore,
    ResultExpired,
    ResultTimeout,
    Retry,
    Unique,
    UniqueConflict,
    inject,
)
from taskweave.core.ids import SECOND
from taskweave.core.verbs import Exchange, Maintain, Op

pytestmark = pytest.mark.anyio
LONG = "20s"


class Clock:
    """Store time that a test moves."""

    def __init__(self) -> None:
        self.at = 1_700_000_000 * SECOND

    def wall(self) -> int:
        return self.at


@attrs.frozen
class Size:
    width: int
    height: int


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store: Any, asked: Counter[str]) -> None:
        self._store, self.asked = store, asked
        self.url = store.url

    async def __aenter__(self) -> Counting:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    async def apply(self, op: Op[Any], *, at: int | None = None) -> Any:
        self.asked[op.name] += 1
        return await self._store.apply(op, at=at)

    def listen(self, queues: Any) -> Any:
        return self._store.listen(queues)

    def another(self) -> Counting:
        return Counting(self._store.another(), self.asked)


def registered(app: App) -> dict[str, Any]:
    async def measure(width: int, height: int) -> Size:
        return Size(width, height)

    def fail(text: str) -> None:
        raise KeyError(text)

    async def give_up(how: str) -> None:
        raise {"cancel": Cancel("not now"), "abort": Abort("never")}[how]

    async def nothing() -> None: ...

    async def quiet(ctx: Ctx = inject()) -> int:
        return ctx.attempt

    return {fn.__name__: app.task(fn, name=fn.__name__) for fn in (measure, fail, give_up, nothing, quiet)}


@pytest.mark.proves(1, 40)
async def test_results_have_their_type_and_failures_their_error(app: App) -> None:
    tasks = registered(app)
    with anyio.fail_after(30):
        async with app.worker(poll="50ms"):
            assert await (await tasks["measure"].enqueue(3, height=4)).result(timeout=LONG) == Size(3, 4)
            assert await (await tasks["nothing"].enqueue()).result(timeout=LONG) is None
            assert await (await tasks["quiet"].enqueue()).result(timeout=LONG) == 1
            failing = await tasks["fail"].enqueue("missing")
            with pytest.raises(JobFailed) as caught:
                await failing.result(timeout=LONG)
            assert (caught.value.error_type or "").endswith("KeyError")
            assert "missing" in (caught.value.error_message or "")
            assert "raise KeyError" in (caught.value.traceback or "")
            with pytest.raises(JobCancelled, match="not now"):
                await (await tasks["give_up"].enqueue("cancel")).result(timeout=LONG)
            with pytest.raises(JobFailed, match="abort"):
                await (await tasks["give_up"].enqueue("abort")).result(timeout=LONG)
            job = await app.get(failing)
    assert (job.state.value, job.attempt) == ("failed", 1)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert [each.ending for each in job.history] == ["fail"]
    assert job.to_json()["error"]["message"] == job.error.message  # type: ignore[union-attr]


async def test_every_other_end_has_its_error(anyio_backend: object) -> None:
    clock = Clock()
    app = App(MemoryTaskStore(clock))
    nothing = app.task(lambda: None, name="nothing", result_ttl="1s", retention="1m")
    once = app.task(lambda: None, name="once", delivery="at_most_once")
    async with app:
        expired = await nothing.options(deadline="1s", delay="2s").enqueue()
        lost = await once.enqueue()
        cancelled = await nothing.enqueue()
        assert await cancelled.cancel("no need")
        assert not await cancelled.cancel()
        await app.store.apply(Exchange("m", "c", 1, ("default",), ("once",), SECOND))
        clock.at += 5 * SECOND
        await app.store.apply(Maintain(SECOND))
        clock.at += 5 * SECOND
        await app.store.apply(Maintain(SECOND))
        with pytest.raises(JobExpired):
            await expired.result(timeout=LONG)
        with pytest.raises(JobLost):
            await lost.result(timeout=LONG)
        with pytest.raises(JobCancelled, match="no need"):
            await cancelled.result(timeout=LONG)
        with pytest.raises(JobNotFound):
            await app.handle("00000000-0000-7000-8000-000000000000").result(timeout=LONG)
        async with app.worker(poll="10ms"):
            done = await nothing.enqueue()
            await done.result(timeout=LONG)
        clock.at += 2 * SECOND
        await app.store.apply(Maintain(SECOND))
        with pytest.raises(ResultExpired, match="ttl"):
            await done.result(timeout=LONG)
        clock.at += 120 * SECOND
        await app.store.apply(Maintain(SECOND))
        with pytest.raises(JobNotFound):
            await done.result(timeout=LONG)


async def test_a_timeout_says_where_the_job_is_and_leaves_it(app: App) -> None:
    tasks = registered(app)
    async with app:
        handle = await tasks["nothing"].enqueue()
        for timeout in (0, "20ms"):
            with pytest.raises(ResultTimeout) as caught:
                await handle.result(timeout=timeout)
            assert caught.value.state == "ready"
        assert await handle.status() == "ready"


@pytest.mark.proves(28)
async def test_a_thousand_waiters_share_one_query_and_cancelled_ones_leave_nothing(anyio_backend: object) -> None:
    asked: Counter[str] = Counter()
    app = App(Counting(MemoryTaskStore(), asked))
    tasks = registered(app)
    got: list[int] = []

    async def wait(handle: Any) -> None:
        got.append(await handle.result(timeout=LONG))

    async def lead(scope: anyio.CancelScope, handle: Any) -> None:
        with scope:
            await handle.result()

    with anyio.fail_after(60):
        async with app:
            handles = await tasks["quiet"].enqueue_many([()] * 1_000)
            cancelled = await tasks["nothing"].options(queue="never").enqueue()
            results = app._client.results
            leader = anyio.CancelScope()
            async with anyio.create_task_group() as waiters:
                waiters.start_soon(lead, leader, cancelled)
                await anyio.wait_all_tasks_blocked()
                for handle in handles:
                    waiters.start_soon(wait, handle)
                await anyio.wait_all_tasks_blocked()
                assert len(results._everyone) == 1_001
                leader.cancel()
                before = asked["load"]
                waiters.start_soon(_drain, app)
            assert len(got) == 1_000
            assert asked["load"] - before < 200
            assert (results._waiters, results._everyone, results._led) == ({}, {}, False)


async def _drain(app: App) -> None:
    await app.executor(queues=("default",)).run_until_idle()


@pytest.mark.proves(40)
async def test_jobs_are_yielded_as_they_end(app: App) -> None:
    tasks = registered(app)
    with anyio.fail_after(30):
        async with app:
            first, second, third = [await tasks["nothing"].enqueue() for _ in range(3)]
            await second.cancel()
            ended = []
            async for job in app.wait_for([first, second.id, third], timeout=LONG):
                ended.append((job.id, job.state.value))
                if len(ended) == 1:
                    assert await app.check_status([first, second.id, "nobody"]) == {
                        first.id: "ready",
                        second.id: "cancelled",
                        "nobody": None,
                    }
                    await first.cancel()
                elif len(ended) == 2:
                    await third.cancel()
            assert ended == [(each.id, "cancelled") for each in (second, first, third)]
            waiting = await tasks["nothing"].enqueue()
            with pytest.raises(ResultTimeout):
                await collect(app, [waiting], timeout="10ms")
            with pytest.raises(JobNotFound):
                await collect(app, ["nobody"], timeout=LONG)


async def collect(app: App, ids: Any, **options: Any) -> list[Any]:
    return [job async for job in app.wait_for(ids, **options)]


@pytest.mark.proves(1)
async def test_operations_on_jobs(app: App) -> None:
    tasks = registered(app)
    unique = app.task(lambda n: None, name="unique", unique=Unique())
    with anyio.fail_after(30):
        async with app:
            handle = await tasks["fail"].options(delay="1h").enqueue("x")
            await app.update(handle, priority=7, delay=0)
            job = await app.get(handle.id)
            assert (job.priority, job.state.value) == (7, "ready")
            await app.executor().run_until_idle()
            assert await app.cancel(handle) is False
            with pytest.raises(IllegalTransition):
                await app.update(handle, priority=1)
            await app.retry(handle)
            assert await handle.status() == "ready"
            with pytest.raises(IllegalTransition):
                await handle.retry()
            held = await unique.enqueue(1)
            await held.cancel()
            holder = await unique.enqueue(1)
            with pytest.raises(UniqueConflict) as caught:
                await held.retry()
            assert caught.value.holder == holder.id
            await app.delete(handle)
            for gone in (app.get, app.delete, app.retry, app.cancel):
                with pytest.raises(JobNotFound):
                    await gone(handle)


@pytest.mark.proves(1)
async def test_queues_are_paused_resumed_and_purged(app: App) -> None:
    tasks = registered(app)
    async with app:
        await tasks["nothing"].options(queue="a").enqueue_many([()] * 5)
        assert [await app.pause("a"), await app.pause("a")] == [True, False]
        (queue,) = await app.queues()
        assert (queue.queue, queue.paused, queue.count("ready")) == ("a", True, 5)  # type: ignore[arg-type]
        assert [await app.resume("a"), await app.resume("a")] == [True, False]
        assert await app.purge("a") == 5
        assert await app.purge("a") == 0
        await app.wait_until_idle(timeout=LONG)


async def test_what_a_block_raises_comes_out_of_the_worker_as_it_is(app: App) -> None:
    tasks = registered(app)
    with anyio.fail_after(30):
        with pytest.raises(JobFailed):
            async with app.worker():
                await (await tasks["fail"].enqueue("x")).result(timeout=LONG)
        with anyio.move_on_after(5) as scope:
            async with app.worker():
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught


async def test_retries_are_the_tasks_own(make_app: Callable[..., App]) -> None:
    app = make_app(poll="10ms")
    tries: list[int] = []

    def flaky(ctx: Ctx) -> int:
        tries.append(ctx.attempt)
        if ctx.attempt < ctx.max_attempts:
            raise OSError("again")
        return ctx.attempt

    task = app.task(flaky, name="flaky", retry=Retry.fixed("1ms", attempts=3, on=(OSError,)))
    with anyio.fail_after(30):
        async with app.worker():
            handle = await task.enqueue()
            assert await handle.result(timeout=LONG) == 3
            job = await app.get(handle)
    assert tries == [1, 2, 3]
    assert [each.ending for each in job.history] == ["retry", "retry"]
    assert job.error is not None
    assert job.error.message == "again"
