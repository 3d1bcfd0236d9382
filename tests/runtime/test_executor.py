"""A TaskExecutor on a memory store: what it does with every way in which a task can behave or misbehave."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from executing import Bench

from taskweave._runtime.ctx import Ctx
from taskweave._runtime.work import Work
from taskweave.core.bounds import BATCH_MAX
from taskweave.core.ids import SECOND
from taskweave.core.job import State, Verb
from taskweave.core.retry import Retry
from taskweave.core.verbs import CancelJobs, Count, PauseQueue, ResumeQueue
from taskweave.exceptions import Abort, Cancel, InvalidValue, NotOpen, RetryAfter, Snooze
from taskweave.injection import inject
from taskweave.stores.memory import MemoryTaskStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryTaskStore() as store:
        yield Bench(store)


@pytest.mark.proves(19, 121)
async def test_a_job_runs_and_its_result_is_stored(bench: Bench) -> None:
    async def double(n: int) -> int:
        return 2 * n

    id = await bench.enqueue(bench.add(double), 21)
    await bench.run_all()
    job = await bench.job(id)
    assert job.state is State.SUCCEEDED
    assert job.life.end is not None
    assert job.life.end.result == b"42"
    assert job.life.attempt == 1


@pytest.mark.proves(2)
async def test_exactly_as_many_run_at_once_as_there_are_slots(bench: Bench) -> None:
    now = most = 0
    full = anyio.Event()
    go = anyio.Event()

    async def wait() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 10:
            full.set()
        await go.wait()
        now -= 1

    for _ in range(50):
        await bench.enqueue(bench.add(wait) if not bench.works else "wait")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: bench.run_all(concurrency=10))
        with anyio.fail_after(10):
            await full.wait()
        await anyio.wait_all_tasks_blocked()
        assert now == 10
        go.set()
    assert most == 10
    (stat,) = (await bench.store.apply(Count())).queues
    assert stat.count(State.SUCCEEDED) == 50


@pytest.mark.proves(2)
async def test_fifty_waits_of_a_fifth_of_a_second_in_ten_slots_take_about_a_second(bench: Bench) -> None:
    async def nap() -> None:
        await anyio.sleep(0.2)

    bench.add(nap)
    for _ in range(50):
        await bench.enqueue("nap")
    began = time.monotonic()
    await bench.run_all(concurrency=10)
    assert 1.0 <= time.monotonic() - began < 3.0  # 1.0 to 1.5 s on a quiet machine


@pytest.mark.proves(2)
async def test_a_plain_function_runs_in_a_thread_while_the_loop_goes_on(bench: Bench) -> None:
    entered, release = threading.Event(), threading.Event()
    threads: set[int] = set()

    def block() -> None:
        threads.add(threading.get_ident())
        entered.set()
        release.wait(20)

    id = await bench.enqueue(bench.add(block))
    async with bench.running():
        while not entered.is_set():
            await anyio.lowlevel.checkpoint()
        for _ in range(100):  # the loop is free: this is its heartbeat
            await anyio.lowlevel.checkpoint()
        assert (await bench.job(id)).state is State.RUNNING
        release.set()
        await bench.until(id, lambda job: job.finished)
    assert threads == threads - {threading.get_ident()}


@pytest.mark.proves(125)
async def test_users_bring_their_own_way_to_run(bench: Bench) -> None:
    class Upside:
        entered = left = 0

        async def __aenter__(self) -> Upside:
            self.entered += 1
            return self

        async def __aexit__(self, *exc: object) -> None:
            self.left += 1

        async def run(self, work: Work, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            await anyio.lowlevel.checkpoint()
            return work.fn(*args, **kwargs)[::-1]

    mode = Upside()

    def word(text: str) -> str:
        return text

    bench.add(word, run_in=mode)
    ids = [await bench.enqueue("word", "abc"), await bench.enqueue("word", "xyz")]
    await bench.run_all()
    results = [(await bench.job(id)).life.end for id in ids]
    assert [end.result for end in results if end] == [b'"cba"', b'"zyx"']
    assert (mode.entered, mode.left) == (1, 1)


@pytest.mark.proves(5, 146)
async def test_priority_decides_then_due_time_then_the_order_of_enqueuing(bench: Bench) -> None:
    ran: list[str] = []

    async def note(text: str) -> None:
        ran.append(text)

    bench.add(note)
    for i in range(20):
        await bench.enqueue("note", f"low {i}", priority=-10)
    for i in range(20):
        await bench.enqueue("note", f"high {i}", priority=10)
    await bench.run_all(concurrency=1)
    assert ran == [f"high {i}" for i in range(20)] + [f"low {i}" for i in range(20)]


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def _group() -> BaseException:
    return BaseExceptionGroup("many", [ValueError("a"), SystemExit(3)])


@pytest.mark.proves(38)
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: ValueError("boom"), "boom"),
        (lambda: SystemExit(7), "7"),
        (_group, "many"),
        (Nasty, "__str__ raised RuntimeError"),
        (lambda: UnicodeError("\ud800"), "\\ud800"),
        (lambda: ValueError("x" * 100_000), "xxx"),
        (GeneratorExit, ""),
        (StopAsyncIteration, ""),
    ],
)
async def test_whatever_a_task_raises_the_worker_lives_and_the_history_says_it(
    bench: Bench, error: Any, says: str
) -> None:
    async def bad() -> None:
        raise error()

    async def good() -> int:
        return 1

    bad_id, good_id = await bench.enqueue(bench.add(bad)), await bench.enqueue(bench.add(good))
    await bench.run_all(concurrency=1)
    job = await bench.job(bad_id)
    assert job.state is State.FAILED
    (entry,) = job.life.history
    assert entry.error is not None
    assert says in entry.error.message
    assert len(entry.error.message) + len(entry.error.traceback) <= 8 << 10
    assert (await bench.job(good_id)).state is State.SUCCEEDED


async def test_tracebacks_begin_in_the_users_code(bench: Bench) -> None:
    async def bad() -> None:
        raise ValueError("boom")

    id = await bench.enqueue(bench.add(bad))
    await bench.run_all()
    error = (await bench.job(id)).life.history[0].error
    assert error is not None
    assert "in bad" in error.traceback
    assert "runner.py" not in error.traceback
    assert error.kinds[0] == "builtins.ValueError"


@pytest.mark.proves(15)
async def test_a_failing_job_is_tried_as_often_as_its_policy_says_then_dead(bench: Bench) -> None:
    tries = 0

    async def flaky() -> None:
        nonlocal tries
        tries += 1
        raise OSError(f"try {tries}")

    id = await bench.enqueue(bench.add(flaky, retry=Retry(3, base="1ms", jitter=False)))
    await bench.run_all(poll="10ms")
    job = await bench.job(id)
    assert tries == 3
    assert job.state is State.FAILED
    assert job.life.end is not None
    assert job.life.end.cause == "exhausted"
    assert [entry.error.message for entry in job.life.history if entry.error] == ["try 1", "try 2", "try 3"]


async def test_control_by_raising(bench: Bench) -> None:
    seen: list[str] = []

    async def task(what: str) -> str:
        seen.append(what)
        if seen.count(what) > 1:
            return "second"
        match what:
            case "snooze":
                raise Snooze("1ms")
            case "retry":
                raise RetryAfter("1ms", "busy")
            case "cancel":
                raise Cancel("not needed")
            case "abort":
                raise Abort("never will")
            case _:
                raise Snooze("nonsense")

    bench.add(task, retry=Retry(2))
    ids = {what: await bench.enqueue("task", what) for what in ("snooze", "retry", "cancel", "abort")}
    odd = await bench.enqueue("task", "odd", max_attempts=1)
    await bench.run_all(poll="10ms")
    jobs = {what: await bench.job(id) for what, id in ids.items()}
    assert jobs["snooze"].state is State.SUCCEEDED
    assert jobs["snooze"].life.attempt == 1, "a snooze gives the attempt back"
    assert jobs["retry"].state is State.SUCCEEDED
    assert jobs["retry"].life.attempt == 2
    assert jobs["cancel"].state is State.CANCELLED
    assert jobs["abort"].state is State.FAILED
    assert jobs["abort"].life.end is not None
    assert (jobs["abort"].life.end.cause, jobs["abort"].life.end.reason) == ("abort", "never will")
    error = (await bench.job(odd)).life.history[0].error
    assert error is not None
    assert "delay is 'nonsense'" in error.message


@pytest.mark.proves(38, 56)
async def test_a_timeout_runs_finally_blocks_and_is_recorded(bench: Bench) -> None:
    cleaned = anyio.Event()

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.set()

    id = await bench.enqueue(bench.add(slow, timeout="50ms"))
    await bench.run_all()
    job = await bench.job(id)
    assert cleaned.is_set()
    assert job.state is State.FAILED
    assert job.life.end is not None
    assert job.life.end.cause == "timeout"
    error = job.life.history[0].error
    assert error is not None
    assert error.type == "TimedOut"
    assert error.message.startswith("stopped after 0.")


async def test_a_timeout_stops_a_thread_too(bench: Bench) -> None:
    def spin() -> None:
        while True:
            time.sleep(0.001)

    id = await bench.enqueue(bench.add(spin, timeout="50ms"))
    await bench.run_all()
    job = await bench.job(id)
    assert job.life.end is not None
    assert job.life.end.cause == "timeout"
    assert not [t for t in threading.enumerate() if sys._current_frames().get(t.ident or 0) is spin]


async def test_a_job_that_swallows_its_cancellation_is_decided_without_it(bench: Bench) -> None:
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await release.wait()

    release = anyio.Event()
    id = await bench.enqueue(bench.add(stubborn, timeout="20ms"))
    executor = bench.executor()
    executor._settings = _impatient(executor._settings)
    async with anyio.create_task_group() as group:
        group.start_soon(executor.run)
        job = await bench.until(id, lambda job: job.finished)
        release.set()
        executor.stop("0s")
    error = job.life.history[0].error
    assert error is not None
    assert "ignored its cancellation" in error.message


def _impatient(settings: Any) -> Any:
    from attrs import evolve

    return evolve(settings, obey_us=SECOND // 20)


async def test_an_operators_cancel_reaches_a_running_job_at_once(bench: Bench) -> None:
    started = anyio.Event()

    async def long() -> None:
        started.set()
        await anyio.sleep_forever()

    id = await bench.enqueue(bench.add(long))
    async with bench.running():
        await started.wait()
        await bench.store.apply(CancelJobs((id,), "changed my mind"))
        job = await bench.until(id, lambda job: job.finished)
    assert job.state is State.CANCELLED
    assert job.life.end is not None
    assert job.life.end.reason == "changed my mind"


@pytest.mark.proves(41)
async def test_a_stop_lets_running_jobs_end_and_claims_nothing_more(bench: Bench) -> None:
    started, go = anyio.Event(), anyio.Event()

    async def job() -> None:
        started.set()
        await go.wait()

    bench.add(job)
    first = await bench.enqueue("job")
    executor = bench.executor(concurrency=1)
    async with anyio.create_task_group() as group:
        group.start_soon(executor.run)
        await started.wait()
        second = await bench.enqueue("job")
        executor.stop("30s")
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert (await bench.job(first)).state is State.SUCCEEDED
    assert (await bench.job(second)).state is State.READY
    with pytest.raises(NotOpen):
        executor.stop()


@pytest.mark.proves(41)
async def test_what_does_not_end_in_the_grace_goes_back_unharmed(bench: Bench) -> None:
    started = anyio.Event()

    async def long() -> None:
        started.set()
        await anyio.sleep_forever()

    id = await bench.enqueue(bench.add(long))
    async with anyio.create_task_group() as group:
        executor = bench.executor()
        group.start_soon(executor.run)
        await started.wait()
        executor.stop("10ms")
    job = await bench.job(id)
    assert (job.state, job.life.attempt) == (State.READY, 0)
    assert job.life.history[0].verb is Verb.RELEASE


@pytest.mark.proves(4, 41)
async def test_a_paused_queue_starts_nothing_until_resumed(bench: Bench) -> None:
    async def job() -> None: ...

    await bench.store.apply(PauseQueue("default"))
    id = await bench.enqueue(bench.add(job))
    async with bench.running():
        await anyio.wait_all_tasks_blocked()
        assert (await bench.job(id)).state is State.READY
        await bench.store.apply(ResumeQueue("default"))
        await bench.until(id, lambda job: job.finished)


async def test_context_variables_do_not_leak_from_job_to_job(bench: Bench) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="clean")

    async def job() -> str:
        seen = variable.get()
        variable.set("dirty")
        await anyio.lowlevel.checkpoint()
        assert variable.get() == "dirty"
        return seen

    bench.add(job)
    ids = [await bench.enqueue("job") for _ in range(5)]
    await bench.run_all(concurrency=1)
    for id in ids:
        end = (await bench.job(id)).life.end
        assert end is not None
        assert end.result == b'"clean"'


async def test_jobs_that_wait_run_beside_each_other(bench: Bench) -> None:
    """Two jobs that need each other: a runner that runs one after the other would hang."""
    first, second = anyio.Event(), anyio.Event()

    async def ping() -> None:
        first.set()
        await second.wait()

    async def pong() -> None:
        await first.wait()
        second.set()

    await bench.enqueue(bench.add(ping))
    await bench.enqueue(bench.add(pong))
    await bench.run_all(concurrency=2)


async def test_a_job_can_use_scopes_groups_and_its_own_cancellations(bench: Bench) -> None:
    async def job() -> list[int]:
        found: list[int] = []

        async def child(n: int) -> None:
            await anyio.sleep(0)
            found.append(n)

        with anyio.move_on_after(0.001):
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(child, n)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(1)
        return sorted(found)

    bench.add(job)
    ids = [await bench.enqueue("job") for _ in range(5)]
    await bench.run_all(concurrency=2)
    for id in ids:
        end = (await bench.job(id)).life.end
        assert end is not None
        assert end.result == b"[0,1,2]"


async def test_progress_children_and_facts(bench: Bench) -> None:
    class Leaf:
        def spec(self) -> Any:
            return bench.plans["leaf"].job("leaf-1", b"[[],{}]")

    async def leaf() -> None: ...

    reported = anyio.Event()
    go = anyio.Event()

    async def parent(ctx: Ctx = inject()) -> str:
        await ctx.progress(1, 4, "rendering")
        ctx.enqueue(Leaf())
        reported.set()
        await go.wait()
        return f"{ctx.task} {ctx.queue} {ctx.attempt}/{ctx.max_attempts} {ctx.fence} {ctx.tags}"

    bench.add(leaf)
    id = await bench.enqueue(bench.add(parent), tags=(("color", "red"),))
    async with bench.running():
        await reported.wait()
        job = await bench.until(id, lambda job: job.life.hold is not None and job.life.hold.progress is not None)
        assert job.life.hold is not None
        assert job.life.hold.progress is not None
        assert (job.life.hold.progress.done, job.life.hold.progress.note) == (1, "rendering")
        go.set()
        job = await bench.until(id, lambda job: job.finished)
        await bench.until("leaf-1", lambda job: job.finished)
    assert job.life.end is not None
    assert job.life.end.result == b"\"parent default 1/1 1 {'color': 'red'}\""


async def test_a_ctx_may_stand_anywhere_among_the_parameters(bench: Bench) -> None:
    async def first(ctx: Ctx, a: int, b: int = 2) -> str:
        return f"{ctx.task} {a} {b}"

    async def middle(a: int, ctx: Ctx, b: int) -> str:
        return f"{ctx.task} {a} {b}"

    async def last(a: int, *, ctx: Ctx) -> str:
        return f"{ctx.task} {a}"

    first_id = await bench.enqueue(bench.add(first), 1)
    middle_id = await bench.enqueue(bench.add(middle), 1, 3)
    last_id = await bench.enqueue(bench.add(last), 1)
    await bench.run_all()
    ends = [(await bench.job(id)).life.end for id in (first_id, middle_id, last_id)]
    assert [end.result for end in ends if end] == [b'"first 1 2"', b'"middle 1 3"', b'"last 1"']


async def test_children_of_a_failed_attempt_never_come_to_be(bench: Bench) -> None:
    class Leaf:
        def spec(self) -> Any:
            return bench.plans["parent"].job("leaf-1", b"[[],{}]")

    async def parent(ctx: Ctx = inject()) -> None:
        ctx.enqueue(Leaf())
        raise ValueError("no")

    await bench.enqueue(bench.add(parent))
    await bench.run_all()
    (stat,) = (await bench.store.apply(Count())).queues
    assert stat.counts == ((State.FAILED, 1),)


async def test_children_that_no_store_would_take_are_refused_where_they_are_enqueued(bench: Bench) -> None:
    """A store refuses them with the success that they belong to: its run would look like one of a vanished worker."""

    class Leaf:
        def __init__(self, number: int) -> None:
            self.number = number

        def spec(self) -> Any:
            return bench.plans["twice"].job(f"leaf-{self.number}", b"[[],{}]")

    async def twice(ctx: Ctx = inject()) -> None:
        ctx.enqueue(Leaf(1))
        ctx.enqueue(Leaf(1))

    async def many(ctx: Ctx = inject()) -> None:
        for number in range(BATCH_MAX + 1):
            ctx.enqueue(Leaf(number))

    ids = [await bench.enqueue(bench.add(fn)) for fn in (twice, many)]
    await bench.run_all()
    jobs = [await bench.job(id) for id in ids]
    assert [job.state for job in jobs] == [State.FAILED] * 2
    errors = [job.life.end.error for job in jobs if job.life.end is not None]
    assert [error.type for error in errors if error is not None] == ["DuplicateId", "InvalidValue"]
    assert [job.life.lost_count for job in jobs] == [0, 0]


async def test_a_keyboard_interrupt_of_a_tasks_own_ends_its_attempt_not_the_worker(bench: Bench) -> None:
    """Ctrl-C raises none in threads, and none at all in a worker that drains at SIGINT."""

    async def in_loop() -> None:
        raise KeyboardInterrupt

    def in_thread() -> None:
        raise KeyboardInterrupt

    async def after() -> str:
        return "alive"

    ids = [await bench.enqueue(bench.add(fn)) for fn in (in_loop, in_thread, after)]
    with anyio.fail_after(60):
        await bench.executor(concurrency=1).run(signals=True, until_idle=True)
    jobs = [await bench.job(id) for id in ids]
    assert [job.state for job in jobs] == [State.FAILED, State.FAILED, State.SUCCEEDED]
    assert [job.life.end.error.type for job in jobs[:2] if job.life.end and job.life.end.error] == [
        "KeyboardInterrupt"
    ] * 2


async def test_results_that_cannot_be_stored_end_the_job_with_a_reason(bench: Bench) -> None:
    async def odd() -> object:
        return object()

    async def huge() -> str:
        return "x" * (2 << 20)

    odd_id, huge_id = await bench.enqueue(bench.add(odd)), await bench.enqueue(bench.add(huge))
    await bench.run_all()
    for id in (odd_id, huge_id):
        job = await bench.job(id)
        assert job.state is State.FAILED
        assert job.life.end is not None
        assert job.life.end.cause == "result_error"


async def test_unknown_tasks_wait_for_a_worker_that_knows_them(bench: Bench) -> None:
    async def known() -> None: ...

    async def strange() -> None: ...

    id = await bench.enqueue(bench.add(strange))
    bench.works.clear()
    other = await bench.enqueue(bench.add(known))
    async with bench.running():
        await bench.until(other, lambda job: job.finished)
        job = await bench.job(id)
        assert (job.state, job.life.fence) == (State.READY, 0)


async def test_an_undecodable_payload_goes_back_with_its_bytes_and_ends_as_a_dead_letter(bench: Bench) -> None:
    async def job(n: int) -> None: ...

    id = await bench.enqueue(bench.add(job), 1, payload=b"\xff not json")
    async with bench.running():
        found = await bench.until(id, lambda job: job.life.unfit_count == 1)
    assert found.spec.payload == b"\xff not json"
    assert found.life.history[0].verb is Verb.RELEASE


async def test_a_blocked_loop_is_named(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def rude() -> None:
        time.sleep(2.5)  # noqa: ASYNC251 - the misuse under test

    await bench.enqueue(bench.add(rude))
    with caplog.at_level(logging.WARNING, "taskweave"):
        await bench.run_all()
    assert any("task rude blocks the event loop" in record.message for record in caplog.records)


async def test_a_long_run_keeps_its_lease_even_while_it_blocks_the_loop(bench: Bench) -> None:
    runs = 0

    async def rude() -> None:
        nonlocal runs
        runs += 1
        time.sleep(2.5)  # noqa: ASYNC251 - the misuse under test

    id = await bench.enqueue(bench.add(rude))
    await bench.run_all(lease="900ms", maintain="50ms")
    job = await bench.job(id)
    assert (runs, job.state, job.life.lost_count) == (1, State.SUCCEEDED, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("concurrency", 0), ("concurrency", True), ("concurrency", 10**9), ("lease", "-1s"), ("lease", 0), ("poll", "x")],
)
async def test_bad_settings_are_refused_by_name(bench: Bench, field: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=field):
        bench.executor(**{field: value})


@pytest.mark.parametrize("queues", [(), {"a": 0}, {"a": 1.5}])
async def test_bad_queues_are_refused(bench: Bench, queues: Any) -> None:
    with pytest.raises(InvalidValue, match="queues"):
        bench.executor(queues=queues)
