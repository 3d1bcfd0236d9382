"""A backup of a store that works: every job that was there all the time is in it once, and it comes back as it says."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import pytest
from every_kind import LEASE_US, spec
from servers import Server

from taskweave import backup
from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.job import State, Verb
from taskweave.core.verbs import Count, Enqueue, Exchange, Find, Load, Settlement
from taskweave.stores.memory import MemoryTaskStore
from taskweave.transfer import compare, copy

pytestmark = pytest.mark.anyio

JOBS = 2_000
_numbers = itertools.count()


def nothing(more: int) -> None:
    """Nobody is told of progress."""


async def work(store: TaskStore, finished: anyio.Event) -> int:
    """A worker and a producer in one, as busy as can be; how many jobs it ended."""
    ended = number = 0
    settle: tuple[Settlement, ...] = ()
    while not finished.is_set():
        number += 1
        answer = await store.apply(Exchange("m", f"c{number}", 50, ("q",), ("t",), LEASE_US, settle))
        ended += len(settle)
        verbs = (Verb.SUCCEED, Verb.FAIL, Verb.SNOOZE)
        settle = tuple(
            [Settlement(each.id, each.fence, verbs[place % 3]) for place, each in enumerate(answer.claimed[:-2])]
        )
        await store.apply(Enqueue(tuple([spec(f"more{number}-{place}") for place in range(20)])))
    return ended


@pytest.fixture(params=["sqlite", "postgres", "mysql", "redis"])
async def places(
    request: pytest.FixtureRequest, shared_server: Callable[[str], Server], tmp_path: Path
) -> AsyncGenerator[tuple[str, str]]:
    """Two addresses, of the store that is backed up and of the one that it is restored in."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/jobs.db", f"sqlite:///{tmp_path}/again.db"
        return
    number = next(_numbers)
    urls = [shared_server(request.param).url(f"backup_{number}_{part}") for part in ("one", "two")]
    yield urls[0], urls[1]
    for url in urls:
        async with connect(url) as store:
            await store.drop()  # type: ignore[attr-defined]  # every store on a server has it


@pytest.mark.proves(131)
async def test_a_backup_under_load_comes_back_with_equal_counts(tmp_path: Path, places: tuple[str, str]) -> None:
    path = tmp_path / "jobs.jsonl.gz"
    async with connect(places[0]) as store, store.another() as busy:
        await store.apply(Enqueue(tuple([spec(f"first{number}") for number in range(JOBS)])))
        finished, started = anyio.Event(), anyio.Event()
        ended: list[int] = []

        async def worker() -> None:
            started.set()
            ended.append(await work(busy, finished))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(worker)
                await started.wait()
                while not (await store.apply(Find((State.SUCCEEDED,), limit=1))).jobs:
                    await anyio.lowlevel.checkpoint()
                written = await backup.write(store, path, nothing)
                finished.set()
    assert ended[0] > 50
    assert written.jobs >= JOBS
    assert len({state for _, state in written.counts}) >= 3

    with backup.Backup(path) as file:
        async with connect(places[1]) as target:
            copied = await copy(file.pages(), file.header.paused, target, release=True, told=nothing)
            assert (copied.stored, copied.existing, copied.refused) == (written.jobs, 0, 0)
            assert (await compare(file.pages(), target, nothing)).equal
            stats = await target.apply(Count())
            there = {(queue.queue, state): number for queue in stats.queues for state, number in queue.counts}
            assert Counter(there) == written.counts == file.tally.counts
            assert await target.check() == []  # type: ignore[attr-defined]  # all of these have it
            first = await target.apply(Load(tuple([f"first{number}" for number in range(JOBS)])))
            assert all(job is not None and job.state is not State.RUNNING for job in first)


async def test_large_jobs_are_carried_in_short_pages(tmp_path: Path) -> None:
    """Pages end at 8 MiB: nothing holds more of a store than that, and a restore of a page fits what a store takes."""
    large = 3 << 20
    async with MemoryTaskStore(payload_bytes_max=large) as store, MemoryTaskStore(payload_bytes_max=large) as target:
        for number in range(9):
            await store.apply(Enqueue((spec(f"j{number}", payload=b"x" * large),)))
        written = await backup.write(store, tmp_path / "file.gz", nothing)
        with backup.Backup(tmp_path / "file.gz") as file:
            pages = [len(page) async for page in file.pages()]
            assert pages == [3, 3, 3]
            await copy(file.pages(), (), target, release=True, told=nothing)
            comparison = await compare(file.pages(), target, nothing)
        assert (comparison.equal, comparison.target.checksum) == (True, written.checksum)
