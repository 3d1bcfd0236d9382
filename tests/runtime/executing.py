"""What the executor's tests share: jobs on a bare TaskExecutor, without an App."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from attrs import evolve

from taskweave._runtime.env import SystemEnv
from taskweave._runtime.executor import TaskExecutor
from taskweave._runtime.work import Work
from taskweave.abc import TaskStore
from taskweave.core.job import Job
from taskweave.core.verbs import Enqueue, Load
from taskweave.registration import register

ENV = SystemEnv()


class Bench:
    """A store with some tasks: enqueue, run, look."""

    def __init__(self, store: TaskStore, **options: Any) -> None:
        self.store, self.options = store, options
        self.works: list[Work] = []
        self.plans: dict[str, Any] = {}

    def add(self, fn: Callable[..., Any], **options: Any) -> str:
        work, plan, _ = register(fn, {"name": fn.__name__, **options}, {})
        self.works.append(work)
        self.plans[work.name] = plan
        return work.name

    async def enqueue(self, task: str, *args: Any, **spec: Any) -> str:
        work = next(work for work in self.works if work.name == task)
        job = self.plans[task].job(ENV.new_id(), work.codec.encode(args, {}))
        await self.store.apply(Enqueue((evolve(job, **spec),)))
        return str(job.id)

    async def job(self, id: str) -> Job:
        (job,) = await self.store.apply(Load((id,)))
        assert job is not None
        return job

    def executor(self, **options: Any) -> TaskExecutor:
        return TaskExecutor(self.store, self.works, **{**self.options, **options})

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[TaskExecutor]:
        """A worker beside the test; stopped at the end, within a bound."""
        executor = self.executor(**options)
        async with anyio.create_task_group() as group:
            await group.start(_run, executor)
            with anyio.fail_after(60):
                yield executor
                executor.stop("0s")

    async def run_all(self, **options: Any) -> None:
        with anyio.fail_after(60):
            await self.executor(**options).run_until_idle()

    async def until(self, id: str, done: Callable[[Job], bool], *, every: float = 0.01) -> Job:
        """Wait for a job to be as wanted: the store has no event for that, so it is asked again."""
        with anyio.fail_after(30):
            while not done(job := await self.job(id)):
                await anyio.sleep(every)
            return job


async def _run(executor: TaskExecutor, *, task_status: Any) -> None:
    await executor.run(task_status=task_status)
