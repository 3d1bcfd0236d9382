"""An app's workers: a TaskExecutor on the store that the app has opened for the running loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus

from taskweave.client import Client
from taskweave.settings import WorkerSettings

if TYPE_CHECKING:
    from taskweave._runtime.executor import TaskExecutor
    from taskweave._runtime.work import Work


def executor_of(
    client: Client, works: Mapping[str, Work], queues: tuple[str, ...], settings: WorkerSettings
) -> TaskExecutor:
    """The executor that these settings mean, on the store that is open in the running loop. Raises NotOpen."""
    from taskweave._runtime.executor import TaskExecutor

    return TaskExecutor(
        client.store,
        works,
        env=client.env,
        concurrency=settings.concurrency,
        queues=queues if settings.queues is None else dict(settings.queues),
        lease=settings.lease,
        grace=settings.grace,
        poll=settings.poll,
        maintain=settings.maintain,
        observers=settings.observers,
        processes=settings.processes,
        name=settings.name,
    )


@asynccontextmanager
async def worker(
    client: Client, works: Mapping[str, Work], queues: tuple[str, ...], settings: WorkerSettings
) -> AsyncGenerator[TaskExecutor]:
    """A worker for as long as the block lasts. What the block raises comes out as it is, not as a group."""
    failed: list[Exception] = []
    ended = anyio.Event()

    async def run(*, task_status: TaskStatus[None]) -> None:
        started = False

        class Status:
            def started(self, value: None = None) -> None:
                nonlocal started
                started = True
                task_status.started()

        try:
            await executor.run(task_status=Status())
        except Exception as error:  # noqa: BLE001 - the task group would wrap it; it is raised below, as it is
            failed.append(error)
            if not started:
                task_status.started()
            group.cancel_scope.cancel()
        finally:
            ended.set()

    async with client.opened():
        executor = executor_of(client, works, queues, settings)
        async with anyio.create_task_group() as group:
            await group.start(run)
            try:
                yield executor
            except Exception as error:  # noqa: BLE001 - likewise
                failed.append(error)
                await _ended(executor, ended, at_once=True)
            except BaseException:  # cancelled, or the program is to end
                await _ended(executor, ended, at_once=True)
                raise
            else:
                await _ended(executor, ended, at_once=False)
        if failed:
            raise failed[0]


async def _ended(executor: TaskExecutor, ended: anyio.Event, *, at_once: bool) -> None:
    """Stop the executor and wait for its end, which its grace and the store's deadlines bound."""
    with anyio.CancelScope(shield=at_once):
        if not ended.is_set():
            executor.stop(0 if at_once else None)
            await ended.wait()


async def run_worker(
    client: Client,
    works: Mapping[str, Work],
    queues: tuple[str, ...],
    settings: WorkerSettings,
    signals: bool,
    until_idle: bool,
) -> None:
    async with client.opened():
        await executor_of(client, works, queues, settings).run(signals=signals, until_idle=until_idle)
