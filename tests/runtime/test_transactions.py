"""ctx.transaction(): a task's writes and its job's success commit together, or neither does (I7)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from executing import ENV, Bench
from transacting import Ledger, address, ledger_at

from taskweave._runtime.ctx import Ctx
from taskweave.abc import Transacts
from taskweave.connect import connect
from taskweave.core.job import State, Verb
from taskweave.core.verbs import Claimed, Exchange, Maintain, Settlement
from taskweave.exceptions import (
    LeaseLost,
    MissingAbility,
    Snooze,
    StoreUnavailable,
    TransactionMisused,
    TransactionTooLong,
)
from taskweave.injection import inject
from taskweave.stores.memory import MemoryTaskStore

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "mysql"]


@pytest.fixture(params=KINDS)
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, shared_server: Callable[[str], Any]
) -> AsyncIterator[Bench]:
    async with ledger_at(address(request.param, tmp_path, shared_server), request.param) as ledger:
        bench = Bench(ledger.store)
        bench.ledger = ledger  # type: ignore[attr-defined]  # the tests' own
        yield bench


@pytest.fixture
def ledger(bench: Bench) -> Ledger:
    ledger: Ledger = bench.ledger  # type: ignore[attr-defined]  # as above
    return ledger


# --- what commits together ----------------------------------------------------------------------------------------


async def test_the_writes_the_success_the_result_and_the_children_commit_together(bench: Bench, ledger: Ledger) -> None:
    async def child() -> None: ...

    child_name = bench.add(child)
    seen: list[Any] = []

    class Child:
        def spec(self) -> Any:
            return bench.plans[child_name].job(ENV.new_id(), b"[[],{}]")

    async def pay(n: int, ctx: Ctx = inject()) -> dict[str, int] | None:
        ctx.enqueue(Child())
        async with ctx.transaction() as tx:
            assert await tx.execute(ledger.insert, n) == 1
            rows = await tx.fetch(f"SELECT n AS number FROM {ledger.table}")
            seen.extend((rows[0][0], rows[0]["number"], tuple(rows[0])))
            ctx.enqueue(Child())
            tx.result = {"paid": n}
        return None

    id = await bench.enqueue(bench.add(pay), 7)
    await bench.run_all()
    job = await bench.job(id)
    assert job.state is State.SUCCEEDED
    assert job.life.end is not None
    assert job.life.end.result == b'{"paid":7}'
    assert seen == [7, 7, (7,)]
    assert await ledger.rows() == [7]
    stats = await bench.store.apply(_count())
    assert stats.queues[0].count(State.SUCCEEDED) == 3


def _count() -> Any:
    from taskweave.core.verbs import Count

    return Count()


class Boom(Exception):
    pass


@pytest.mark.parametrize("way", [Boom("boom"), Snooze("1h"), None], ids=["exception", "control", "SQL error"])
async def test_an_exception_undoes_everything_and_ends_the_attempt_as_ever(
    bench: Bench, ledger: Ledger, way: Exception | None
) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            if way is not None:
                raise way
            await tx.execute("INSERT INTO nowhere VALUES (1)")

    id = await bench.enqueue(bench.add(pay), 1)
    async with bench.running():
        job = await bench.until(id, lambda job: bool(job.life.history))
    assert job.state is (State.SCHEDULED if isinstance(way, Snooze) else State.FAILED)
    assert await ledger.rows() == []


async def test_a_rolled_back_block_may_be_tried_again_in_the_same_run(bench: Bench, ledger: Ledger) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        for attempt in range(2):
            try:
                async with ctx.transaction() as tx:
                    await tx.execute(ledger.insert, n)
                    if attempt == 0:
                        raise Boom
            except Boom:
                continue

    id = await bench.enqueue(bench.add(pay), 1)
    await bench.run_all()
    assert (await bench.job(id)).state is State.SUCCEEDED
    assert await ledger.rows() == [1]


# --- after the commit ---------------------------------------------------------------------------------------------


class Counting:
    """An observer that counts what is durable."""

    def __init__(self) -> None:
        self.settled_ends: list[tuple[str, Verb]] = []

    def started(self, jobs: Any) -> None: ...
    def ended(self, run: Any, job: Claimed, run_us: int) -> None: ...
    def store_called(self, verb: str, took_us: int, problem: str | None) -> None: ...
    def slots(self, used: int, total: int) -> None: ...

    def settled(self, settled: Any) -> None:
        self.settled_ends += [(one.id, one.verb) for one in settled]


@pytest.mark.parametrize("after", ["raise", "return", "snooze", "agree"])
async def test_after_the_block_the_job_has_succeeded_whatever_follows(
    bench: Bench, ledger: Ledger, after: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> str | None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            tx.result = "done"
        with pytest.raises(TransactionMisused, match="ended the job"):
            ctx.transaction()
        if after == "raise":
            raise Boom
        if after == "snooze":
            raise Snooze("1h")
        return "else" if after == "return" else "done"

    id = await bench.enqueue(bench.add(pay), 1)
    counting = Counting()
    with caplog.at_level(logging.WARNING, "taskweave.worker"):
        await bench.run_all(observers=[counting])
    job = await bench.job(id)
    assert job.state is State.SUCCEEDED
    assert job.life.end is not None
    assert job.life.end.result == b'"done"'
    assert counting.settled_ends == [(id, Verb.SUCCEED)]
    assert "changes nothing" in caplog.text or after == "agree"
    assert "refused" not in caplog.text


async def test_a_function_may_go_on_after_its_block_longer_than_a_lease(bench: Bench, ledger: Ledger) -> None:
    settled = anyio.Event()

    async def pay(n: int, ctx: Ctx = inject()) -> str | None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
        settled.set()
        await released.wait()
        return "none is cut short"

    ended: list[str] = []

    class Ending(Counting):
        def ended(self, run: Any, job: Claimed, run_us: int) -> None:
            ended.append(run.ending.name)

    released = anyio.Event()
    id = await bench.enqueue(bench.add(pay), 1)
    async with bench.running(lease="1s", maintain="10ms", observers=[Ending()]):
        await settled.wait()
        assert (await bench.job(id)).life.end is not None
        until = anyio.current_time() + 1.5  # a lease and more, in which nothing is renewed, lost or run again
        ended.clear()  # of starts that a busy machine has kept from their leases
        while anyio.current_time() < until:
            await bench.store.apply(Maintain(1_000_000))
            await anyio.sleep(0.02)
        assert ended == []
        released.set()
        with anyio.fail_after(10):
            while not ended:
                await anyio.sleep(0.01)
    assert ended == ["COMMITTED"]
    assert await ledger.rows() == [1]


# --- what undoes it -----------------------------------------------------------------------------------------------


async def test_a_timeout_inside_the_block_undoes_it(bench: Bench, ledger: Ledger) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            await anyio.sleep_forever()

    id = await bench.enqueue(bench.add(pay), 1, timeout_us=50_000)
    await bench.run_all()
    job = await bench.job(id)
    assert job.life.end is not None
    assert (job.state, job.life.end.cause) == (State.FAILED, "timeout")
    assert await ledger.rows() == []


async def test_a_drain_inside_the_block_undoes_it_and_gives_the_job_back(bench: Bench, ledger: Ledger) -> None:
    inside = anyio.Event()

    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            inside.set()
            await anyio.sleep_forever()

    id = await bench.enqueue(bench.add(pay), 1)
    async with bench.running():
        await inside.wait()
    job = await bench.job(id)
    assert (job.state, job.life.attempt) == (State.READY, 0)
    assert await ledger.rows() == []


async def test_half_a_lease_is_the_longest_that_a_block_may_take(bench: Bench, ledger: Ledger) -> None:
    raised: list[BaseException] = []

    async def pay(n: int, ctx: Ctx = inject()) -> None:
        try:
            async with ctx.transaction() as tx:
                await tx.execute(ledger.insert, n)
                await anyio.sleep_forever()
        except TransactionTooLong as error:
            raised.append(error)
            raise

    id = await bench.enqueue(bench.add(pay), 1)
    await bench.run_all(lease="600ms")
    job = await bench.job(id)
    assert job.life.end is not None
    assert job.life.end.error is not None
    assert (job.state, job.life.end.error.type) == (State.FAILED, "TransactionTooLong")
    assert "0.3 s" in str(raised[0])
    assert await ledger.rows() == []


async def test_waiting_for_its_beginning_is_bounded_too(bench: Bench, ledger: Ledger) -> None:
    """Another process holds the file; on servers nobody waits for that."""
    if ledger.kind != "sqlite":
        pytest.skip("a server has room for two")
    began, held = anyio.Event(), anyio.Event()
    raised: list[StoreUnavailable] = []

    async def pay(n: int, ctx: Ctx = inject()) -> None:
        began.set()
        await held.wait()
        try:
            async with ctx.transaction() as tx:
                await tx.execute(ledger.insert, n)
        except StoreUnavailable as error:
            raised.append(error)
            raise

    id = await bench.enqueue(bench.add(pay), 1)
    async with connect(ledger.store.url) as other, bench.running(lease="2s"):
        await began.wait()
        assert isinstance(other, Transacts)
        async with other.transaction():
            held.set()
            with anyio.fail_after(5):
                while not raised:
                    await anyio.sleep(0.01)
        job = await bench.until(id, lambda job: job.finished)
    assert job.state is State.FAILED
    assert "no transaction could begin within 1 s" in str(raised[0])
    assert await ledger.rows() == []


async def _take_away(bench: Bench, id: str) -> Claimed:
    """Another member gets the job while it runs here, as after a lease that ran out unnoticed."""
    fence = (await bench.job(id)).life.fence
    tasks = tuple(work.name for work in bench.works)
    settle = (Settlement(id, fence, Verb.RELEASE),)
    take = Exchange("other", ENV.new_id(), 1, ("default",), tasks, 3_600_000_000, settle)
    (job,) = (await bench.store.apply(take)).claimed
    assert (job.id, job.fence) == (id, fence + 2)
    return job


@pytest.mark.parametrize("caught", [False, True])
async def test_a_lost_lease_undoes_it_and_nothing_of_the_run_counts(bench: Bench, ledger: Ledger, caught: bool) -> None:
    raised: list[BaseException] = []
    began, taken = anyio.Event(), anyio.Event()

    async def pay(n: int, ctx: Ctx = inject()) -> str:
        began.set()
        await taken.wait()
        try:
            async with ctx.transaction() as tx:
                await tx.execute(ledger.insert, n)
                tx.result = "late"
        except LeaseLost as error:
            raised.append(error)
            if not caught:
                raise
        return "late"

    id = await bench.enqueue(bench.add(pay), 1, max_lost=5)
    counting = Counting()
    async with bench.running(observers=[counting], maintain="1h", lease="1h"):
        await began.wait()
        other = await _take_away(bench, id)
        taken.set()
        with anyio.fail_after(10):
            while not raised:
                await anyio.sleep(0.005)
        assert await ledger.rows() == []
        job = await bench.job(id)
        assert (job.state, job.life.fence) == (State.RUNNING, other.fence)
        settle = (Settlement(id, other.fence, Verb.SUCCEED, b'"theirs"'),)
        theirs = Exchange("other", ENV.new_id(), 0, (), (), 1_000_000, settle)
        assert (await bench.store.apply(theirs)).refused == ()
    job = await bench.job(id)
    assert job.life.end is not None
    assert job.life.end.result == b'"theirs"'
    assert counting.settled_ends == []


# --- misuse -------------------------------------------------------------------------------------------------------


async def test_one_inside_another_is_refused(bench: Bench, ledger: Ledger) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            with pytest.raises(TransactionMisused, match="open already"):
                ctx.transaction()

    id = await bench.enqueue(bench.add(pay), 1)
    await bench.run_all()
    assert (await bench.job(id)).state is State.SUCCEEDED


@pytest.mark.parametrize("sql", ["COMMIT", "  /* now */ rollback", "-- x\n BEGIN", "END", ";commit"])
async def test_sql_that_would_end_the_transaction_is_refused(bench: Bench, ledger: Ledger, sql: str) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            with pytest.raises(TransactionMisused, match="would end the transaction"):
                await tx.execute(sql)
            await tx.execute("SAVEPOINT mine")
            await tx.execute(ledger.insert, n)
            await tx.execute("ROLLBACK TO mine" if ledger.kind != "mysql" else "ROLLBACK TO SAVEPOINT mine")

    id = await bench.enqueue(bench.add(pay), 1)
    await bench.run_all()
    assert (await bench.job(id)).state is State.SUCCEEDED
    assert await ledger.rows() == [1]


async def test_a_result_that_cannot_be_stored_undoes_it_and_is_not_tried_again(bench: Bench, ledger: Ledger) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            tx.result = object()

    id = await bench.enqueue(bench.add(pay, retry=5), 1)
    await bench.run_all()
    job = await bench.job(id)
    assert job.life.end is not None
    assert (job.state, job.life.end.cause, job.life.attempt) == (State.FAILED, "result_error", 1)
    assert await ledger.rows() == []


async def test_a_child_after_the_commit_has_nothing_to_come_along_with(bench: Bench, ledger: Ledger) -> None:
    class Child:
        def spec(self) -> Any:
            return bench.plans["pay"].job(ENV.new_id(), b"[[2],{}]")

    refused: list[BaseException] = []

    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
        try:
            ctx.enqueue(Child())
        except TransactionMisused as error:
            refused.append(error)

    bench.add(pay)
    await bench.enqueue("pay", 1)
    await bench.run_all()
    assert len(refused) == 1
    assert await ledger.rows() == [1]


@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_outside_of_the_loop_it_is_refused_clearly(bench: Bench, mode: str) -> None:
    import tasks_transactions

    fn = tasks_transactions.ask_for_one
    id = await bench.enqueue(bench.add(fn, run_in=mode))
    await bench.run_all()
    job = await bench.job(id)
    assert job.life.end is not None
    assert job.life.end.error is not None
    assert job.life.end.error.type == "TransactionMisused"
    assert "run_in='loop'" in job.life.end.error.message


async def test_a_store_that_cannot_is_named() -> None:
    async with MemoryTaskStore() as store:
        bench = Bench(store)

        async def pay(ctx: Ctx = inject()) -> None:
            async with ctx.transaction():
                raise AssertionError("never entered")

        id = await bench.enqueue(bench.add(pay))
        await bench.run_all()
        job = await bench.job(id)
    assert job.life.end is not None
    assert job.life.end.error is not None
    assert job.life.end.error.type == MissingAbility.__name__
    assert "memory://" in job.life.end.error.message


# --- a commit whose answer is lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("came_through", [True, False])
async def test_a_commit_whose_answer_is_lost_is_found_out(
    bench: Bench, ledger: Ledger, came_through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says that it does not know; the worker asks the job's row, and is right."""
    inner = bench.store.transaction  # type: ignore[attr-defined]  # it transacts
    lost = 0

    def losing() -> Any:
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def block() -> AsyncIterator[Any]:
            nonlocal lost
            try:
                async with inner() as tx:
                    yield tx
                    if not came_through and not lost:
                        raise Boom
            except Boom:
                pass
            if not lost:
                lost += 1
                raise StoreUnavailable("store", "the answer was lost", applied="unknown")

        return block()

    monkeypatch.setattr(bench.store, "transaction", losing)
    attempts: list[int] = []

    async def pay(n: int, ctx: Ctx = inject()) -> None:
        attempts.append(ctx.attempt)
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)

    id = await bench.enqueue(bench.add(pay, retry=3), 1)
    counting = Counting()
    await bench.run_all(observers=[counting])
    monkeypatch.undo()
    assert lost == 1
    assert (await bench.job(id)).state is State.SUCCEEDED
    assert await ledger.rows() == [1]
    assert attempts == ([1] if came_through else [1, 2])
    assert counting.settled_ends.count((id, Verb.SUCCEED)) == 1


# --- many at once -------------------------------------------------------------------------------------------------


async def test_many_blocks_at_once_all_commit_and_the_worker_goes_on(bench: Bench, ledger: Ledger) -> None:
    async def pay(n: int, ctx: Ctx = inject()) -> None:
        async with ctx.transaction() as tx:
            await tx.execute(ledger.insert, n)
            await anyio.sleep(0)

    name = bench.add(pay)
    for n in range(100):
        await bench.enqueue(name, n)
    await bench.run_all(concurrency=30)
    assert await ledger.rows() == list(range(100))
