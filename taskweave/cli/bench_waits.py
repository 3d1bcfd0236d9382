"""What `taskweave bench` measures besides throughput: what a job waits, and what an idle worker and a job cost."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import anyio

from taskweave.app import App
from taskweave.cli.bench_speed import Facts, app_on, given, opened, store_of


async def latency(kind: str, jobs: int, folder: str) -> Facts:
    """From just before the enqueue to the start of the job, on an idle worker of this process, in milliseconds."""
    starts: dict[int, int] = {}
    async with opened(kind, folder) as store:
        app = App(store)

        async def note(n: int) -> None:
            starts[n] = time.perf_counter_ns()

        task: Any = app.task(note, name="note")
        sent: dict[int, int] = {}
        async with app, app.worker():
            await anyio.sleep(0.2)
            for n in range(jobs):
                sent[n] = time.perf_counter_ns()
                handle = await task.enqueue(n)
                await handle.result(timeout=10)
                await anyio.sleep(0.02)
    return _milliseconds([starts[n] - sent[n] for n in range(jobs)])


async def latency_across(kind: str, jobs: int, folder: str) -> Facts:
    """The same with the producer in another process."""
    starts: list[int] = []
    all_started = anyio.Event()
    async with opened(kind, folder) as store:
        app = App(store)

        async def note(sent: int) -> None:
            starts.append(time.time_ns() - sent)
            if len(starts) == jobs:
                all_started.set()

        app.task(note, name="note")
        async with app, app.worker():
            with anyio.fail_after(120):
                told, env = given(kind)
                command = [sys.executable, "-m", "taskweave.cli.bench_measures", "producer", told, folder, str(jobs)]
                await anyio.run_process(command, stderr=None, env=env)
                await all_started.wait()
    return _milliseconds(starts)


async def produce(kind: str, folder: str, jobs: int) -> None:
    """The other process of `latency_across`: one job every 20 ms, its argument the instant just before."""
    app = App(store_of(kind, folder))

    async def note(sent: int) -> None:
        """Runs in the worker."""

    task: Any = app.task(note, name="note")
    async with app:
        for _ in range(jobs):
            await anyio.sleep(0.02)
            await task.enqueue(time.time_ns())


def _milliseconds(nanoseconds: list[int]) -> Facts:
    ordered = sorted(nanoseconds)
    return {
        "p50_ms": statistics.median(ordered) / 1e6,
        "p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1e6,
    }


async def rest(kind: str, jobs: int, folder: str) -> Facts:
    """What an idle worker costs: percent of one core over `jobs` / 1000 seconds, and its memory in MB."""
    async with opened(kind, folder) as store:
        app, _ = app_on(store)
        async with app, app.worker():
            await anyio.sleep(1)
            cpu, began = time.process_time(), time.perf_counter()
            await anyio.sleep(jobs / 1_000)
            share = (time.process_time() - cpu) / (time.perf_counter() - began)
    return {"percent_of_core": 100 * share, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def memory(kind: str, jobs: int, folder: str) -> Facts:
    """Bytes for each queued job in the memory store."""
    async with opened(kind, folder) as store:
        app, task = app_on(store)
        async with app:
            await task.enqueue(0)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            await task.enqueue_many([(n,) for n in range(jobs)])
            after = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
    return {"bytes_per_job": (after - before) / jobs}


async def imported(kind: str, jobs: int, folder: str) -> Facts:
    """Milliseconds of `from taskweave import App` beyond those of an empty interpreter; medians of `jobs` runs each."""

    def once(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - began) * 1e3

    empty = statistics.median(once("pass") for _ in range(jobs))
    return {"import_ms": statistics.median(once("from taskweave import App") for _ in range(jobs)) - empty}
