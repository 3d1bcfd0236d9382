"""What can be asked of an app's jobs and queues: one or a few store verbs each, with refusals turned into errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, Final, TypeAlias

import anyio

from taskweave import handle
from taskweave.client import Client
from taskweave.core.bounds import check_name
from taskweave.core.ids import Duration, JobId, span_us
from taskweave.core.job import Job, State
from taskweave.core.verbs import (
    Count,
    DeleteJobs,
    Find,
    Load,
    PauseQueue,
    PurgeQueue,
    QueueStat,
    ResumeQueue,
    UpdateJob,
)
from taskweave.exceptions import InvalidValue, JobNotFound, ResultTimeout, WaitTimeout
from taskweave.handle import Handle
from taskweave.options import priority as checked_priority
from taskweave.options import tags as checked_tags
from taskweave.options import whole

Id: TypeAlias = JobId | Handle[Any]

PAGE_MAX: Final = 500
LOAD_MAX: Final = 1_000
IDLE_POLL_FIRST_S: Final = 0.005
IDLE_POLL_LAST_S: Final = 0.5


def id_of(job: Id) -> JobId:
    """Raises InvalidValue."""
    id = job.id if isinstance(job, Handle) else job
    if not isinstance(id, str):
        raise InvalidValue("id", id, "a job's id as text, or its handle")
    return id


async def get(client: Client, id: Id) -> Job:
    return await handle.load(client, id_of(id))


async def find(
    client: Client,
    states: Iterable[State | str],
    queue: str | None,
    task: str | None,
    tags: Mapping[str, str] | Iterable[str],
    limit: int | None,
) -> AsyncGenerator[Job]:
    wanted, pairs = _states(states), checked_tags(tags)
    left = None if limit is None else whole("limit", limit)
    after: int | None = None
    while True:
        size = PAGE_MAX if left is None else min(PAGE_MAX, left)
        found = await client.apply(Find(wanted, queue, task, pairs, after, size))
        for job in found.jobs:
            yield job
        after = found.next
        left = None if left is None else left - len(found.jobs)
        if after is None or left == 0:
            return


def _states(states: Iterable[State | str]) -> tuple[State, ...]:
    try:
        return tuple(State(each) for each in ((states,) if isinstance(states, str) else states))
    except (ValueError, TypeError) as error:
        known = ", ".join(each.value for each in State)
        raise InvalidValue("states", states, f"some of {known}") from error


async def update(client: Client, id: Id, priority: int | None, delay: Duration | None) -> None:
    checked = None if priority is None else checked_priority(priority)
    delay_us = None if delay is None else span_us(delay, "delay")
    handle.check_changed([await client.apply(UpdateJob(id_of(id), checked, delay_us))], "be updated")


async def wait_for(client: Client, ids: Iterable[Id], timeout: Duration | None) -> AsyncGenerator[Job]:
    seconds = None if timeout is None else span_us(timeout, "timeout") / 1e6
    until = None if seconds is None else anyio.current_time() + seconds
    results = client.results
    with results.waiter(id_of(id) for id in ids) as waiter:
        while waiter.waiting or waiter.ended:
            ended: list[tuple[JobId, Job | None]] = []
            with anyio.move_on_at(until):
                ended = await results.next_ended(waiter)
            if not ended:
                late = min(waiter.waiting)
                seen = waiter.seen.get(late)
                raise ResultTimeout(late, seconds or 0.0, seen.value if seen else "unanswered")
            for id, job in ended:
                if job is None:
                    raise JobNotFound(id)
                yield job


async def check_status(client: Client, ids: Iterable[Id]) -> dict[JobId, State | None]:
    wanted = list(dict.fromkeys(id_of(id) for id in ids))
    states: dict[JobId, State | None] = {}
    for start in range(0, len(wanted), LOAD_MAX):
        some = tuple(wanted[start : start + LOAD_MAX])
        jobs = await client.apply(Load(some))
        states |= {id: None if job is None else job.state for id, job in zip(some, jobs, strict=True)}
    return states


async def cancel(client: Client, id: Id, reason: str) -> bool:
    return await handle.cancel(client, id_of(id), reason)


async def retry(client: Client, id: Id) -> None:
    await handle.retry(client, id_of(id))


async def delete(client: Client, id: Id) -> None:
    handle.check_changed(await client.apply(DeleteJobs((id_of(id),))), "be deleted")


async def queues(client: Client) -> tuple[QueueStat, ...]:
    return (await client.apply(Count())).queues


async def pause(client: Client, queue: str) -> bool:
    return await client.apply(PauseQueue(check_name("queue", queue)))


async def resume(client: Client, queue: str) -> bool:
    return await client.apply(ResumeQueue(check_name("queue", queue)))


async def purge(client: Client, queue: str) -> int:
    op, purged = PurgeQueue(check_name("queue", queue)), 0
    while some := await client.apply(op):
        purged += some
    return purged


async def wait_until_idle(client: Client, timeout: Duration | None) -> None:
    seconds = None if timeout is None else span_us(timeout, "timeout") / 1e6
    pause = IDLE_POLL_FIRST_S
    with anyio.move_on_after(seconds):
        while any(_busy(each) for each in await queues(client)):
            await anyio.sleep(pause)
            pause = min(pause * 1.5, IDLE_POLL_LAST_S)
        return
    raise WaitTimeout("the queues to be idle", seconds or 0.0)


def _busy(queue: QueueStat) -> bool:
    if queue.paused:
        return queue.count(State.RUNNING) > 0
    return queue.count(State.READY, State.RUNNING, State.SCHEDULED) > 0
