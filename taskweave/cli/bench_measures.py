"""One measurement in a process of its own: `python -m taskweave.cli.bench_measures NAME LOOP STORE JOBS`.

It prints one JSON object. Each measure is a plain function of (store, jobs, folder), without any repetition: whoever
runs it repeats it, in turns with others. Stores are memory, sqlite (synchronous=NORMAL) and sqlite-full.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio

from taskweave import App
from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.ids import MINUTE, SECOND
from taskweave.core.job import Spec, Verb
from taskweave.core.verbs import Enqueue, Exchange, Settlement
from taskweave.stores.sqlite import SQLiteTaskStore

TASK: Final = "bench.noop"
FLOOR_BATCH: Final = 100
WIRE_BATCH: Final = 1_000
Facts: TypeAlias = dict[str, float]


async def noop(n: int) -> None:
    """The job that costs nothing."""


def store_of(kind: str, folder: str) -> TaskStore:
    """memory, sqlite (synchronous=NORMAL) or sqlite-full."""
    if kind == "memory":
        return connect("memory://")
    return SQLiteTaskStore(Path(folder) / "bench.db", synchronous="FULL" if kind == "sqlite-full" else "NORMAL")


def app_on(store: TaskStore) -> Any:
    app = App(store)
    return app, app.task(noop, name=TASK)


async def drain(kind: str, jobs: int, folder: str) -> Facts:
    """Jobs enqueued beforehand, drained by one worker with its defaults, results stored."""
    async with store_of(kind, folder) as store:
        app, task = app_on(store)
        async with app:
            await task.enqueue_many([(n,) for n in range(jobs)])
            cpu, began = time.process_time(), time.perf_counter()
            await app.executor().run_until_idle()
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            (stat,) = await app.queues()
            assert dict(stat.counts) == {"succeeded": jobs}
    return {"jobs_per_second": jobs / took, "cpu_us_per_job": cpu / jobs * 1e6}


async def floor(kind: str, jobs: int, folder: str) -> Facts:
    """A bare loop on the same store: claim 100, run each as a task of the loop, settle 100, until all are done."""
    async with store_of(kind, folder) as store:
        _, task = app_on(store)
        await _fill(store, task, jobs)
        cpu, began, done = time.process_time(), time.perf_counter(), 0
        settle: tuple[Settlement, ...] = ()
        while done < jobs or settle:
            request = Exchange("floor", f"c{done}", FLOOR_BATCH, ("default",), (TASK,), MINUTE, settle)
            claimed = (await store.apply(request)).claimed
            async with anyio.create_task_group() as group:
                for _ in claimed:
                    group.start_soon(noop, 1)
            settle = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, b"null") for job in claimed)
            done += len(claimed)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"jobs_per_second": jobs / took, "cpu_us_per_job": cpu / jobs * 1e6}


async def _fill(store: TaskStore, task: Any, jobs: int) -> float:
    """Enqueue by the store's verb alone; the seconds that this took."""
    specs = [task.call(n).spec() for n in range(jobs)]
    batches = [tuple(specs[at : at + WIRE_BATCH]) for at in range(0, jobs, WIRE_BATCH)]
    began = time.perf_counter()
    for batch in batches:
        await store.apply(Enqueue(batch))
    return time.perf_counter() - began


async def enqueue(kind: str, jobs: int, folder: str) -> Facts:
    """In bulk and one by one through the public API, and the store verb alone."""
    async with store_of(kind, folder) as store:
        app, task = app_on(store)
        async with app:
            calls = [(n,) for n in range(jobs)]
            began = time.perf_counter()
            await task.enqueue_many(calls)
            bulk = jobs / (time.perf_counter() - began)
            few = max(1, jobs // 10)
            began = time.perf_counter()
            for n in range(few):
                await task.enqueue(n)
            single = few / (time.perf_counter() - began)
            verb = jobs / await _fill(store, task, jobs)
    return {"bulk_per_second": bulk, "single_per_second": single, "verb_per_second": verb}


async def latency(kind: str, jobs: int, folder: str) -> Facts:
    """From just before the enqueue to the start of the job, on an idle worker of this process, in milliseconds."""
    starts: dict[int, int] = {}
    async with store_of(kind, folder) as store:
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
    async with store_of(kind, folder) as store:
        app = App(store)

        async def note(sent: int) -> None:
            starts.append(time.time_ns() - sent)
            if len(starts) == jobs:
                all_started.set()

        app.task(note, name="note")
        async with app, app.worker():
            with anyio.fail_after(120):
                command = [sys.executable, "-m", __spec__.name, "producer", folder, str(jobs)]
                await anyio.run_process(command, stderr=None)
                await all_started.wait()
    return _milliseconds(starts)


async def _produce(folder: str, jobs: int) -> None:
    """The other process of `latency_across`: one job every 20 ms, its argument the instant just before."""
    app = App(SQLiteTaskStore(Path(folder) / "bench.db"))

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


async def claim(kind: str, jobs: int, folder: str) -> Facts:
    """One exchange that settles 50 and claims 50, with `jobs` queued, in microseconds for each job."""
    async with store_of(kind, folder) as store:
        for start in range(0, jobs, 10_000):
            specs = tuple(Spec(f"j{n}", TASK, "default", b"[[1],{}]") for n in range(start, start + 10_000))
            await store.apply(Enqueue(specs[: jobs - start]))
        settle: tuple[Settlement, ...] = ()
        took: list[float] = []
        for round in range(100):
            request = Exchange("m", f"c{round}", 50, ("default",), (TASK,), MINUTE, settle)
            began = time.perf_counter()
            answer = await store.apply(request)
            took.append((time.perf_counter() - began) / 50 * SECOND)
            settle = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, b"null") for job in answer.claimed)
    return {"us_per_job": statistics.median(took[1:])}


async def rest(kind: str, jobs: int, folder: str) -> Facts:
    """What an idle worker costs: percent of one core over `jobs` / 1000 seconds, and its memory in MB."""
    async with store_of(kind, folder) as store:
        app, _ = app_on(store)
        async with app, app.worker():
            await anyio.sleep(1)
            cpu, began = time.process_time(), time.perf_counter()
            await anyio.sleep(jobs / 1_000)
            share = (time.process_time() - cpu) / (time.perf_counter() - began)
    return {"percent_of_core": 100 * share, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def memory(kind: str, jobs: int, folder: str) -> Facts:
    """Bytes for each queued job in the memory store."""
    async with store_of(kind, folder) as store:
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


MEASURES: Final[dict[str, Callable[[str, int, str], Awaitable[Facts]]]] = {
    each.__name__: each for each in (drain, floor, enqueue, latency, latency_across, claim, rest, memory, imported)
}
LOOPS: Final[dict[str, dict[str, Any]]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def main(name: str, loop: str, kind: str, jobs: str) -> None:
    with tempfile.TemporaryDirectory(prefix="taskweave-bench-") as folder:
        facts = anyio.run(partial(MEASURES[name], kind, int(jobs), folder), **LOOPS[loop])
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "producer":
        anyio.run(_produce, sys.argv[2], int(sys.argv[3]))
    else:
        main(*sys.argv[1:])
