"""The bridge under errors, cancellation and the end of its loop, on every runtime."""

from __future__ import annotations

import asyncio
import contextvars
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from taskweave import _bridge
from taskweave._bridge import open_bridge, poster

pytestmark = pytest.mark.anyio

WORD: contextvars.ContextVar[str] = contextvars.ContextVar("WORD", default="none")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "taskweave-asyncio"] == []


async def add(left: int, right: int) -> int:
    await asyncio.sleep(0)
    return left + right


async def test_a_result_an_error_and_any_awaitable_come_back() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    def not_a_coroutine_function() -> asyncio.Future[int]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(7)
        return future

    def not_even_awaitable() -> Any:
        return 3

    async with open_bridge() as bridge:
        assert await bridge.run(add, 2, 3) == 5
        assert await bridge.run(not_a_coroutine_function) == 7
        with pytest.raises(LookupError, match="gone"):
            await bridge.run(fails)
        with anyio.fail_after(5), pytest.raises(TypeError):
            await bridge.run(not_even_awaitable)  # must not hang the caller


async def test_the_context_travels_and_anyio_code_works_inside() -> None:
    async def inside() -> str:
        await anyio.lowlevel.checkpoint()  # dies with "bad yield" when it takes itself for trio
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return WORD.get()

    WORD.set("tracing id")
    async with open_bridge() as bridge:
        assert await bridge.run(inside) == "tracing id"


async def test_the_driver_sees_exactly_one_cancel_and_unwinds_before_the_caller_goes_on() -> None:
    cancels, rolled_back = 0, False
    started = anyio.Event()

    async def transaction(post: Any) -> None:
        nonlocal cancels, rolled_back
        try:
            post(started.set)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancels += 1
            for _ in range(5):  # a ROLLBACK is several awaits long
                try:
                    await asyncio.sleep(0.001)
                except asyncio.CancelledError:
                    cancels += 1
            rolled_back = True
            raise

    async with open_bridge() as bridge:
        async with anyio.create_task_group() as group:
            group.start_soon(bridge.run, transaction, bridge.post)
            with anyio.fail_after(5):
                await started.wait()
            group.cancel_scope.cancel()
        assert (cancels, rolled_back) == (1, True)


async def test_a_finished_operation_is_never_lost() -> None:
    started, seen, after = anyio.Event(), [], []

    async def commits_anyway(post: Any) -> str:
        post(started.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "committed"
        return "unreachable"

    async def caller(bridge: _bridge.Bridge) -> None:
        seen.append(await bridge.run(commits_anyway, bridge.post))
        await anyio.lowlevel.checkpoint()
        after.append("not cancelled")

    async with open_bridge() as bridge, anyio.create_task_group() as group:
        group.start_soon(caller, bridge)
        with anyio.fail_after(5):
            await started.wait()
        group.cancel_scope.cancel()
    assert (seen, after) == (["committed"], [])


async def test_a_call_in_a_cancelled_scope_starts_nothing_that_outlives_it() -> None:
    running = 0

    async def count() -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0)
        finally:
            running -= 1

    async with open_bridge() as bridge:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await bridge.run(count)
        assert scope.cancelled_caught
    assert running == 0


async def test_a_storm_of_cancellations_reaches_each_operation_at_most_once() -> None:
    dice = random.Random(7)
    open_now, cancelled, torn = 0, 0, 0

    async def transaction() -> None:
        nonlocal open_now, cancelled, torn
        open_now += 1
        cancels = 0
        for _ in range(8):  # the steps of a driver that finishes or rolls back, whatever comes
            try:
                await asyncio.sleep(0.0005)
            except asyncio.CancelledError:
                cancels += 1
        open_now -= 1
        cancelled += cancels
        torn += cancels > 1

    async def one(bridge: _bridge.Bridge, after: float) -> None:
        with anyio.move_on_after(after):
            await bridge.run(transaction)

    async with open_bridge() as bridge:
        for wave in range(1, 20):  # a slow machine may cancel all of a short wave before it has begun
            async with anyio.create_task_group() as group:
                for _ in range(300):
                    group.start_soon(one, bridge, dice.uniform(0, 0.004 * wave))
            assert (open_now, torn) == (0, 0)
            if cancelled:
                break
        assert cancelled > 0  # else the storm proved nothing


async def test_posted_callbacks_run_in_the_callers_loop() -> None:
    where: list[threading.Thread] = []
    done = anyio.Event()

    def note() -> None:
        where.append(threading.current_thread())
        done.set()

    async def driver_callback(post: Any) -> None:
        post(note)

    async with open_bridge() as bridge:
        await bridge.run(driver_callback, bridge.post)
        with anyio.fail_after(5):
            await done.wait()
    assert where == [threading.current_thread()]


async def test_poster_reaches_the_loop_from_a_foreign_thread() -> None:
    done, got = anyio.Event(), []
    post = poster()

    def note(word: str) -> None:
        got.append((word, threading.current_thread()))
        done.set()

    thread = threading.Thread(target=post, args=(note, "hint"))
    thread.start()
    with anyio.fail_after(5):
        await done.wait()
    thread.join()
    assert got == [("hint", threading.current_thread())]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_poster_drops_what_comes_after_the_end_of_the_loop(backend: str) -> None:
    async def make() -> _bridge.Post:
        return poster()

    post = anyio.run(make, backend=backend)
    ran: list[int] = []
    post(ran.append, 1)
    assert ran == []


def test_poster_hides_no_other_error() -> None:
    class OpenButBroken:
        def call_soon_threadsafe(self, *args: object) -> None:
            raise RuntimeError("another trouble")

        def is_closed(self) -> bool:
            return False

    async def make() -> _bridge.Post:
        real, asyncio.get_running_loop = asyncio.get_running_loop, OpenButBroken  # type: ignore
        try:
            return _bridge._asyncio_poster()
        finally:
            asyncio.get_running_loop = real

    post = asyncio.run(make())
    with pytest.raises(RuntimeError, match="another trouble"):
        post(print)


def test_a_native_cancel_is_not_swallowed() -> None:
    async def main() -> bool:
        entered = asyncio.Event()

        async def commits_anyway() -> str:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "committed"
            return "unreachable"

        async def caller() -> None:
            async with open_bridge() as bridge:
                await bridge.run(commits_anyway)

        task = asyncio.create_task(caller())
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_a_helper_loop_that_cannot_start_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_files(main: Any) -> None:
        main.close()
        raise OSError(24, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(asyncio, "run", no_more_files)
        with pytest.raises(OSError, match="Too many open files"):
            async with open_bridge():
                pass

    anyio.run(main, backend="trio")


@pytest.mark.proves(19)
def test_importing_the_bridge_loads_neither_runtime() -> None:
    code = "import sys, anyio, anyio.to_thread; before = set(sys.modules); import taskweave._bridge; print(sorted("
    code += "name for name in set(sys.modules) - before if name.split('.')[0] in ('asyncio', 'trio')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_what_runs_beside_the_caller_is_stopped_by_one_cancel_and_unwinds() -> None:
    said: list[str] = []

    async def waits_for_ever(begun: _bridge.Post, event: anyio.Event) -> None:
        begun(event.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append(WORD.get())

    async with open_bridge() as bridge:
        WORD.set("outside")
        begun = anyio.Event()
        background = bridge.start(waits_for_ever, poster(), begun)
        with anyio.fail_after(5):
            await begun.wait()
            await background.stop()
    assert said == ["outside"]


async def test_what_failed_beside_the_caller_is_told_when_it_is_stopped() -> None:
    async def fails() -> None:
        raise LookupError("gone")

    async with open_bridge() as bridge:
        background = bridge.start(fails)
        await bridge.run(add, 1, 2)
        with pytest.raises(LookupError, match="gone"):
            await background.stop()
