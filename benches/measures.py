"""One measurement, in a process of its own: `python benches/measures.py NAME BACKEND STORE JOBS` prints one JSON object.

Each is a plain function of (store, jobs); the scripts beside it repeat them in turns and print medians and ratios.
"""

from __future__ import annotations

import json
import os
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
from typing import Any

import anyio

from taskweave import App
from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.ids import MINUTE, SECOND
from taskweave.core.job import Spec, Verb
from taskweave.core.verbs import Enqueue, Exchange, Settlement

HERE = Path(__file__).parent
Facts = dict[str, float]


async def noop(n: int) -> None:
    """The job that costs nothing."""


def store_of(kind: str, folder: str) -> TaskStore:
    """memory, sqlite (synchronous=NORMAL) or sqlite-full."""
    if kind == "memory":
        return connect("memory://")
    from taskweave.stores.sqlite import SQLiteTaskStore

    return SQLiteTaskStore(Path(folder) / "bench.db", synchronous="FULL" if kind == "sqlite-full" else "NORMAL")


def app_on(store: TaskStore) -> Any:
    app = App(store)
    return app, app.task(noop, name="noop")


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
    from floors import BareMemory, BareSqlite
    from floors import drain as bare_drain

    bare = BareMemory() if kind == "memory" else BareSqlite("FULL" if kind == "sqlite-full" else "NORMAL")
    took, cpu = await bare_drain(bare, jobs, Path(folder))
    return {"jobs_per_second": jobs / took, "cpu_us_per_job": cpu / jobs * 1e6}


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
            specs = [task.call(n).spec() for n in range(jobs)]
            batches = [tuple(specs[at : at + 1_000]) for at in range(0, jobs, 1_000)]
            began = time.perf_counter()
            for batch in batches:
                await store.apply(Enqueue(batch))
            verb = jobs / (time.perf_counter() - began)
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
    async with store_of(kind, folder) as store:
        app = App(store)

        async def note(sent: int) -> None:
            starts.append(time.time_ns() - sent)

        app.task(note, name="note")
        async with app, app.worker():
            command = [sys.executable, str(HERE / "producer.py"), str(Path(folder) / "bench.db"), str(jobs)]
            with anyio.fail_after(120):
                await anyio.run_process(command, stderr=None)
                while len(starts) < jobs:
                    await anyio.sleep(0.01)
    return _milliseconds(starts)


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
            specs = tuple(Spec(f"j{n}", "noop", "default", b"[[1],{}]") for n in range(start, start + 10_000))
            await store.apply(Enqueue(specs[: jobs - start]))
        settle: tuple[Settlement, ...] = ()
        took = []
        for round in range(100):
            request = Exchange("m", f"c{round}", 50, ("default",), ("noop",), MINUTE, settle)
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
    """Milliseconds of `import taskweave` beyond those of an empty interpreter; medians of `jobs` runs each."""

    def once(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
        return (time.perf_counter() - began) * 1e3

    empty = statistics.median(once("pass") for _ in range(jobs))
    return {"import_ms": statistics.median(once("import taskweave") for _ in range(jobs)) - empty}


MEASURES: dict[str, Callable[[str, int, str], Awaitable[Facts]]] = {
    each.__name__: each for each in (drain, floor, enqueue, latency, latency_across, claim, rest, memory, imported)
}
BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def main(name: str, backend: str, kind: str, jobs: str) -> None:
    with tempfile.TemporaryDirectory(prefix="taskweave-bench-") as folder:
        facts = anyio.run(partial(MEASURES[name], kind, int(jobs), folder), **BACKENDS[backend])
    print(json.dumps(facts))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main(*sys.argv[1:])
