"""taskweave demo: the whole engine on real input. It hashes, compresses and parses every file of a source tree.

One job for each file and stage: hashing runs in the event loop, compressing in threads, parsing in processes. A
job's id is made from its stage, file, size and time, so enqueueing the same tree again adds only what is new: the
demo can be interrupted or killed at any point, and the same command goes on where it was. A file that does not parse
is tried three times, as if the trouble might pass, and ends as a dead letter with its history.
"""

from __future__ import annotations

import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import click
from attrs import frozen

from taskweave._runtime.env import SystemEnv
from taskweave._runtime.executor import TaskExecutor
from taskweave.abc import TaskStore
from taskweave.app import App
from taskweave.cli.demo_jobs import FILES_MAX, QUEUE, Placed, Source, Stage, sources_of, stages_of
from taskweave.cli.demo_progress import DemoProgress
from taskweave.cli.demo_report import as_document, read_report, show_report
from taskweave.cli.loops import backend_option, run_on
from taskweave.cli.output import emit_json, say
from taskweave.cli.reach import json_option
from taskweave.connect import connect
from taskweave.core.job import State
from taskweave.core.verbs import Count, DeleteJobs, Enqueue, Load
from taskweave.exceptions import NotOpen, StoreFull

DEFAULT_STORE: Final = "sqlite:///taskweave-demo.db"
BATCH: Final = 1_000
LEASE: Final = "5s"  # so that the jobs of a killed demo are taken over soon
LOOK_SECONDS: Final = 1.0


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--store", metavar="URL", default=DEFAULT_STORE, show_default=True, help="Where the jobs are kept.")
@click.option("--concurrency", default=100, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--limit", type=click.IntRange(1, FILES_MAX), help="At most this many files.")
@click.option("--fresh", is_flag=True, help="Forget what earlier runs did to these files.")
@json_option
@backend_option
def demo(
    path: Path | None,
    store: str,
    concurrency: int,
    limit: int | None,
    fresh: bool,
    as_json: bool,
    backend: str,
) -> None:
    """Hash, compress and parse the Python files under PATH (default: Python's own library).

    Stop it with Ctrl-C, or kill it; the same command goes on where it was.
    """
    root = (path or Path(sysconfig.get_path("stdlib"))).resolve()
    sources = sources_of(root, limit)
    run = Demo(store, root, sources, concurrency, fresh, as_json)
    try:
        finished = run_on(backend, run.main)
    except KeyboardInterrupt:  # before the worker began to obey signals, or after it ended
        finished = False
        click.echo("interrupted: run the same command to go on", err=True)
    if not finished:
        click.get_current_context().exit(130)


@frozen
class Demo:
    """One run of the demo, from the files to the table."""

    url: str
    root: Path
    sources: list[Source]
    concurrency: int
    fresh: bool
    as_json: bool

    async def main(self) -> bool:
        """Whether everything is done; False after an interruption. Raises StoreError."""
        app = App(self.url)
        stages = stages_of(app)
        env = SystemEnv()
        async with connect(self.url) as store:
            jobs = [Placed(stage, source) for source in self.sources for stage in stages]
            known = await self._enqueue(store, jobs)
            self._say(f"{len(self.sources)} files under {self.root}, {len(jobs)} jobs in {store.url}")
            if known:
                self._say(f"{len(known)} of them were done by an earlier run; going on with the rest")
            began = env.now()
            with DemoProgress({job.id: job.stage.name for job in jobs}, known) as progress:
                finished = len(known) == len(jobs) or await self._run(store, stages, progress)
            elapsed = env.now() - began
            if not finished:
                left = len(jobs) - progress.known
                self._say(f"\ninterrupted: {left} of {len(jobs)} jobs left. Run the same command to go on.")
                return False
            report, url = await read_report(store, jobs), store.url  # which says no password
        shown = [stage.name for stage in stages]
        if self.as_json:
            emit_json(as_document(report, done=progress.done, total=len(jobs), elapsed_us=elapsed, url=url))
        else:
            show_report(report, done=progress.done, elapsed_us=elapsed, url=url, stages=shown)
        return True

    async def _enqueue(self, store: TaskStore, jobs: list[Placed]) -> set[str]:
        """Store the jobs that are not there yet; the ids of those that are finished already."""
        finished: set[str] = set()
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            ids = tuple(job.id for job in batch)
            if self.fresh:
                await store.apply(DeleteJobs(ids))
            enqueued = await store.apply(Enqueue(tuple(job.spec() for job in batch)))
            there = tuple(each.id for each in enqueued if each.deduplicated)
            for job in await store.apply(Load(there)) if there else ():
                if job is not None and job.finished:
                    finished.add(job.id)
        return finished

    async def _run(self, store: TaskStore, stages: tuple[Stage, ...], progress: DemoProgress) -> bool:
        """Run what is left; False when a signal came first. Raises StoreFull."""
        executor = TaskExecutor(
            store,
            [stage.task.work for stage in stages],
            concurrency=self.concurrency,
            queues=(QUEUE,),
            lease=LEASE,
            grace="5s",
            observers=(progress,),
            name="demo",
        )
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_when_done, store, executor, progress)
            await executor.run(signals=True)
            group.cancel_scope.cancel()
        if progress.full:
            raise StoreFull(store.url, "there was no room for what the jobs returned; what was done before is kept")
        return progress.finished or not await unfinished(store)

    async def _stop_when_done(self, store: TaskStore, executor: TaskExecutor, progress: DemoProgress) -> None:
        """Ends the run when every job is done, by whomever: another demo may work on the same store."""
        while True:
            with anyio.move_on_after(LOOK_SECONDS):
                await progress.completed.wait()
            if progress.full or progress.finished or not await unfinished(store):
                break
        with suppress(NotOpen):  # a signal may have ended it meanwhile
            executor.stop(0 if progress.full else None)

    def _say(self, text: str) -> None:
        if not self.as_json:
            say(text)


async def unfinished(store: TaskStore) -> int:
    """How many jobs of the demo's queue have not ended."""
    stats = await store.apply(Count())
    return sum(each.count(State.SCHEDULED, State.READY, State.RUNNING) for each in stats.queues if each.queue == QUEUE)
