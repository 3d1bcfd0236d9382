"""Functions in threads: stopped where Python can stop them, else left behind, and never hit by a stranger's stop."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from runtime import tasks_thread as tasks
from runtime.calling import work_of

from taskweave._runtime.threads import ThreadCancelled, ThreadMode, _Run
from taskweave._runtime.work import Work
from taskweave.exceptions import Snooze

pytestmark = pytest.mark.anyio


async def call(mode: ThreadMode, fn: Any, *args: Any) -> Any:
    with anyio.fail_after(30):
        return await mode.run(Work(fn.__name__, fn, work_of(tasks.add).codec, "thread"), args, {})


async def happened(event: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(event.wait, 30)


async def test_a_result_and_an_exception_come_back_as_they_are() -> None:
    async with ThreadMode(2) as mode:
        assert await call(mode, tasks.add, 2, 3) == 5
        assert await call(mode, tasks.thread_id) != threading.get_ident()
        for error in (ValueError("x"), Snooze("3s"), SystemExit(3)):
            with pytest.raises(type(error)) as caught:
                await call(mode, tasks.fail, error)
            assert caught.value is error
        with pytest.raises(RuntimeError):
            await call(mode, tasks.fail, StopIteration())


async def test_context_variables_go_in_and_do_not_come_back() -> None:
    async with ThreadMode(2) as mode:
        token = tasks.word.set("from the loop")
        try:
            assert await call(mode, tasks.say) == "from the loop"
            assert tasks.word.get() == "from the loop"
        finally:
            tasks.word.reset(token)


async def test_a_cancelled_loop_of_python_stops_and_its_finally_runs() -> None:
    async with ThreadMode(1) as mode:
        started, ended = threading.Event(), threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(call, mode, tasks.spin, started, ended)
            await happened(started)
            group.cancel_scope.cancel()
        assert ended.is_set()
        assert mode.left_behind == 0
        assert await call(mode, tasks.add, 1) == 2


async def test_a_thread_that_ignores_its_stop_is_left_behind_and_keeps_its_slot() -> None:
    async with ThreadMode(1, grace=0.05) as mode:
        started, gate, after = threading.Event(), threading.Lock(), threading.Event()
        gate.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(call, mode, tasks.hold, started, gate, after.set)
            await happened(started)
            began = time.perf_counter()
            group.cancel_scope.cancel()
        assert time.perf_counter() - began < 1
        assert mode.left_behind == 1
        with anyio.move_on_after(0.05) as scope:
            await call(mode, tasks.add, 1)
        assert scope.cancelled_caught  # no slot is free
        gate.release()
        assert await call(mode, tasks.add, 1) == 2
        assert mode.left_behind == 0
        assert not after.is_set()  # the stop was waiting behind the call into C


async def test_no_more_than_the_limit_run_at_once() -> None:
    async with ThreadMode(3) as mode:
        lock, now, most = threading.Lock(), 0, 0
        full = threading.Barrier(3, timeout=30)

        def count() -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            full.wait()
            with lock:
                now -= 1

        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(call, mode, count)
        assert most == 3


@pytest.mark.proves(2)
async def test_functions_in_threads_do_not_hold_up_the_loop() -> None:
    """Ten naps of 200 ms at once, while the loop's heart goes on beating."""
    async with ThreadMode(10) as mode:
        gaps: list[float] = []

        async def beat() -> None:
            last = time.perf_counter()
            while True:
                await anyio.sleep(0.005)
                gaps.append(time.perf_counter() - last)
                last = time.perf_counter()

        began = time.perf_counter()
        async with anyio.create_task_group() as heart:
            heart.start_soon(beat)
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(call, mode, tasks.nap, 0.2)
            heart.cancel_scope.cancel()
        assert time.perf_counter() - began < 1.5  # one after the other they take 2 s
        assert sorted(gaps)[-2] < 0.1


async def test_a_stop_never_hits_the_job_that_has_the_thread_next() -> None:
    """Functions that end just as they are stopped, hundreds of times; the thread is used again at once each time."""
    async with ThreadMode(4) as mode:
        hit: list[BaseException] = []

        def innocent() -> None:
            try:
                for _ in range(300):
                    pass
            except BaseException as error:  # noqa: BLE001 - this is what must not happen
                hit.append(error)

        for round in range(300):
            started = threading.Event()

            def short(begun: threading.Event = started, length: int = round * 20) -> None:
                begun.set()
                for _ in range(length):
                    pass

            async with anyio.create_task_group() as group:
                group.start_soon(call, mode, short)
                while not started.is_set():
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await call(mode, innocent)
        assert hit == []
        assert mode.left_behind == 0


def test_a_stop_between_the_functions_end_and_its_report_is_taken_back() -> None:
    """The function is done and its thread waits for the run's lock while the stop is injected: nothing may escape."""
    started, go, told = threading.Event(), threading.Event(), threading.Event()
    strays: list[BaseException] = []

    def function() -> None:
        started.set()
        go.wait(30)

    run = _Run(Work("function", function, work_of(tasks.add).codec, "thread"), (), {})
    run._lock = lock = threading.RLock()  # type: ignore[assignment]  # so that the stop may come from its holder

    def thread() -> None:
        try:
            run.host()
        except BaseException as error:  # noqa: BLE001 - this is what must not happen
            strays.append(error)

    hosted = threading.Thread(target=thread)
    hosted.start()
    assert started.wait(30)
    with lock:
        go.set()
        until = time.monotonic() + 30
        while sys._current_frames()[hosted.ident or 0].f_code.co_name != "_close":
            assert time.monotonic() < until
            time.sleep(0.001)  # no event tells that a thread waits for a lock
        assert run.stop(told.set)
    hosted.join(30)
    assert strays == []
    assert told.is_set()
    assert run.ended


def test_a_run_stopped_before_it_began_does_not_begin() -> None:
    ran = threading.Event()
    run = _Run(Work("set", ran.set, work_of(tasks.add).codec, "thread"), (), {})
    assert not run.stop(lambda: None)
    run.host()
    assert not ran.is_set()
    assert run.ended


def test_a_stop_is_no_ordinary_exception() -> None:
    assert not issubclass(ThreadCancelled, Exception)
