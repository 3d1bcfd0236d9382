"""Workers that are killed, stopped, frozen and blown up, as real processes on one SQLite file or on one server.

Promises under test: what was acknowledged is run (I1, I3), by nobody twice at once (I4), drains harm nothing (I24),
poison is put aside (I22), at most once is at most once (I6). Each test asserts that its fault really happened.
"""

from __future__ import annotations

import os
import signal
import time

import anyio
import pytest
from site_of_workers import Site, until

from taskweave.core.job import Spec, State, Verb
from taskweave.core.verbs import Count, Enqueue, Exchange, Lease, Load, Maintain, Settlement
from taskweave.stores.memory import MemoryTaskStore

pytestmark = pytest.mark.anyio


EVERYWHERE = pytest.mark.parametrize(
    "site",
    [
        pytest.param("sqlite", marks=pytest.mark.proves(9)),
        pytest.param("redis", marks=pytest.mark.proves(10)),
        pytest.param("postgres", marks=pytest.mark.proves(11)),
        pytest.param("mysql", marks=pytest.mark.proves(12)),
    ],
    indirect=True,
)


@EVERYWHERE
async def test_a_thousand_jobs_survive_three_kills(site: Site) -> None:
    ids = await site.enqueue("step", range(1_000), max_lost=10)  # a job that all kills hit is not poison here
    killed_running = 0
    for kill in range(1, 4):
        worker = site.worker()
        await until(lambda kill=kill: sum(site.count("end").values()) >= 200 * kill)  # type: ignore[misc]  # a bound argument
        killed_running += await site.kill_amid(worker)
    assert killed_running >= 3, "each kill hit running jobs"
    last = site.worker("until-idle")
    await until(lambda: len(site.count("end")) == 1_000)
    states = [job.state for job in await site.settled(ids)]
    assert states == [State.SUCCEEDED] * 1_000
    assert await anyio.to_thread.run_sync(last.wait, 20) == 0
    await site.check()


@EVERYWHERE
@pytest.mark.proves(132)
async def test_two_workers_on_one_store_share_the_work_and_run_nothing_twice(site: Site) -> None:
    workers = [site.worker(), site.worker()]
    ids = await site.enqueue("step", range(1_000))
    assert {job.state for job in await site.settled(ids)} == {State.SUCCEEDED}
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(worker.wait, 20) == 0
    starts = site.count("start")
    assert len(starts) == 1_000
    assert set(starts.values()) == {1}
    assert len({line[-1] for line in site.lines()}) == 2, "both have worked"


@pytest.mark.proves(41)
async def test_sigterm_lets_short_jobs_end_and_gives_long_ones_back(site: Site) -> None:
    ids = await site.enqueue("hold", range(3))
    worker = site.worker()
    await until(lambda: len(site.count("start")) == 3)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert await anyio.to_thread.run_sync(worker.wait, 20) == 0
    assert 2.0 <= time.monotonic() - began <= 2.0 + 2.0 + 1.0  # grace, promise, slack of a busy machine
    assert site.count("cleaned") == {0: 1, 1: 1, 2: 1}, "finally blocks have run"
    assert [(job.state, job.life.attempt) for job in await site.jobs(ids)] == [(State.READY, 0)] * 3


@pytest.mark.proves(41)
async def test_a_second_signal_gives_back_at_once(site: Site) -> None:
    ids = await site.enqueue("hold", range(2))
    worker = site.worker()
    await until(lambda: len(site.count("start")) == 2)
    began = time.monotonic()
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGTERM)
    assert await anyio.to_thread.run_sync(worker.wait, 20) == 0
    assert time.monotonic() - began < 1.9
    assert {job.state for job in await site.jobs(ids)} == {State.READY}


@EVERYWHERE
@pytest.mark.proves(43)
async def test_a_frozen_worker_comes_back_as_a_stranger(site: Site) -> None:
    """SIGSTOP for three leases: another worker takes over, and what the thawed one settles is refused (F3, I4)."""
    (id,) = await site.enqueue("hold", range(1))
    frozen = site.worker()
    await until(lambda: site.count("start")[0] == 1)
    os.kill(frozen.pid, signal.SIGSTOP)
    other = site.worker()
    await until(lambda: site.count("start")[0] == 2)
    (site.folder / "go").touch()
    await until(lambda: site.count("end")[0] == 1)
    (job,) = await site.settled([id])
    before = job.life
    assert before.lost_count == 1, "the fault has happened"
    os.kill(frozen.pid, signal.SIGCONT)
    await until(lambda: site.count("cleaned")[0] == 2)
    frozen.send_signal(signal.SIGTERM)
    other.send_signal(signal.SIGTERM)
    assert (await anyio.to_thread.run_sync(frozen.wait, 20), other.wait(20)) == (0, 0)
    (job,) = await site.jobs([id])
    assert job.life == before, "the stale settlement has changed nothing"


async def test_poison_is_put_aside_and_its_neighbours_live(site: Site) -> None:
    (bomb,) = await site.enqueue("bomb", range(1), max_lost=2)
    ids = await site.enqueue("step", range(100, 140))
    deaths = 0
    for _ in range(6):
        worker = site.worker("until-idle")
        deaths += await anyio.to_thread.run_sync(worker.wait, 40) == 9
        (job,) = await site.jobs([bomb])
        if job.finished:
            break
    assert deaths == 2
    last = site.worker("until-idle")
    assert await anyio.to_thread.run_sync(last.wait, 40) == 0
    assert job.life.end is not None
    assert (job.state, job.life.end.cause) == (State.FAILED, "poison")
    assert {job.state for job in await site.settled(ids)} == {State.SUCCEEDED}


async def test_at_most_once_starts_once_and_leaves_a_record(site: Site) -> None:
    (id,) = await site.enqueue("once", range(1), delivery="at_most_once")
    worker = site.worker("until-idle")
    assert await anyio.to_thread.run_sync(worker.wait, 40) == 9
    reaper = site.worker()
    (job,) = await site.settled([id])
    reaper.send_signal(signal.SIGTERM)
    assert reaper.wait(20) == 0
    assert job.state is State.LOST
    assert site.count("start") == {0: 1}


async def test_a_process_that_exits_in_a_job_costs_an_attempt_not_the_worker(site: Site) -> None:
    (id,) = await site.enqueue("child", range(1), retry=2)
    worker = site.worker("until-idle")
    assert await anyio.to_thread.run_sync(worker.wait, 60) == 0
    (job,) = await site.jobs([id])
    assert job.state is State.FAILED
    assert site.count("start") == {0: 2}
    assert job.life.history[-1].error is not None
    assert "exited with code 3" in job.life.history[-1].error.message


async def test_what_was_acknowledged_is_there_after_the_producer_was_killed(site: Site) -> None:
    ids = await site.enqueue("step", range(50))
    async with site.store() as store:
        (stat,) = (await store.apply(Count())).queues
    assert stat.count(State.READY) == len(ids)


@pytest.mark.proves(43)
async def test_a_stranger_settles_nothing_in_memory_either() -> None:
    """The same as for frozen workers, where store and workers share a process: only the instants are made up."""
    lease_us = 1_000_000
    async with MemoryTaskStore() as store:

        async def claim(member: str, now: int) -> Lease:
            op = Exchange(member, f"{member}-claims", 1, ("q",), ("t",), lease_us)
            (job,) = (await store.apply(op, at=now)).claimed
            return Lease(job.id, job.fence)

        async def settle(lease: Lease, now: int) -> tuple[Lease, ...]:
            end = Settlement(lease.id, lease.fence, Verb.SUCCEED, b"1")
            answer = await store.apply(Exchange("any", f"s{now}", 0, (), (), lease_us, (end,)), at=now)
            return answer.refused

        await store.apply(Enqueue((Spec("j", "t", "q", b"[]"),)), at=1)
        frozen = await claim("frozen", 2)
        await store.apply(Maintain(lease_us), at=3)
        await store.apply(Maintain(lease_us), at=2 + lease_us)
        other = await claim("other", 3 + lease_us)
        assert await settle(frozen, 4 + lease_us) == (frozen,)
        (job,) = await store.apply(Load(("j",)), at=5 + lease_us)
        assert job is not None
        assert (job.state, job.life.lost_count) == (State.RUNNING, 1)
        assert await settle(other, 6 + lease_us) == ()
