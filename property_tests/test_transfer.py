"""Whatever a store has been through, a copy and a backup of it mean the same, to the last job and key.

The planted bugs are what a move can lose without anybody noticing: a field, an order, the last page.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskweave import backup, transfer
from taskweave.abc import TaskStore
from taskweave.core.ids import SECOND
from taskweave.core.job import Job
from taskweave.core.verbs import Changed, Export, Restore, TakeDump
from taskweave.exceptions import InvalidBackup, TaskweaveError
from taskweave.stores.memory import MemoryTaskStore
from taskweave.testing.operations import STEPS_US, Requests, Seeded

START = 50 * SECOND
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Still:
    """A clock that stands where the walk left it."""

    def __init__(self) -> None:
        self.now = START

    def wall(self) -> int:
        return self.now


def nothing(more: int) -> None:
    """Nobody is told of progress."""


async def walked(seed: int, steps: int) -> tuple[MemoryTaskStore, Still]:
    """A store after a random walk."""
    clock, rng = Still(), Random(seed)
    store, requests = MemoryTaskStore(clock), Requests(Seeded(rng))
    for _ in range(steps):
        clock.now += rng.choice(STEPS_US) // 10
        op = requests.next()
        try:
            requests.answered(op, await store.apply(op))
        except TaskweaveError:
            continue
    return store, clock


async def meaning(store: TaskStore) -> tuple[Any, ...]:
    """What must be equal after a move: all but seqs, leases, and the keys of jobs that the move itself ended."""
    dump = await store.apply(TakeDump())
    found = [job async for page in transfer.pages(store) for job in page]
    jobs = [evolve(transfer.parked(job), seq=0) for job in found]
    ended = {job.id for job, was in zip(jobs, found, strict=True) if job.finished and not was.finished}
    return jobs, dump.paused, [key for key in dump.keys if key[1] not in ended]


async def check_copy(seed: int, steps: int) -> None:
    store, clock = await walked(seed, steps)
    target = MemoryTaskStore(clock)
    settings_of = await store.apply(Export(limit=1))
    await transfer.copy(transfer.pages(store), settings_of.paused, target, release=True, told=nothing)
    assert await meaning(target) == await meaning(store)
    assert (await transfer.compare(transfer.pages(store), target, nothing)).equal
    assert (await transfer.compare(transfer.pages(target), target, nothing)).equal
    target._shared.queue.check()


async def check_backup(seed: int, steps: int, suffix: str) -> None:
    store, clock = await walked(seed, steps)
    with tempfile.TemporaryDirectory(prefix="taskweave-") as folder:
        path = Path(folder) / f"file{suffix}"
        written = await backup.write(store, path, nothing)
        target = MemoryTaskStore(clock)
        with backup.Backup(path) as file:
            await transfer.copy(file.pages(), file.header.paused, target, release=True, told=nothing)
            assert file.tally.checksum == written.checksum
        assert await meaning(target) == await meaning(store)


@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 120))
@FEW
def test_a_copy_of_any_store_means_the_same(seed: int, steps: int) -> None:
    anyio.run(check_copy, seed, steps)


@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 120), suffix=st.sampled_from(["", ".gz"]))
@FEW
def test_a_backup_of_any_store_means_the_same(seed: int, steps: int, suffix: str) -> None:
    anyio.run(check_backup, seed, steps, suffix)


@given(seed=st.integers(0, 1 << 32), place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@FEW
def test_no_change_of_one_byte_goes_unnoticed(seed: int, place: float, change: int) -> None:
    async def check() -> None:
        store, _ = await walked(seed, 60)
        with tempfile.TemporaryDirectory(prefix="taskweave-") as folder:
            path = Path(folder) / "file"
            await backup.write(store, path, nothing)
            content = bytearray(path.read_bytes())
            content[int(place * len(content))] ^= change
            path.write_bytes(content)
            with pytest.raises(InvalidBackup):
                backup.Backup(path)

    anyio.run(check)


# --- planted bugs -------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def forgets_the_last_page(patch: pytest.MonkeyPatch) -> None:
    async def pages(store: TaskStore) -> AsyncIterator[tuple[Job, ...]]:
        page = await store.apply(Export(limit=5))
        yield page.jobs

    patch.setattr(transfer, "pages", pages)


def forgets_the_pauses(patch: pytest.MonkeyPatch) -> None:
    real = transfer.copy
    patch.setattr(transfer, "copy", lambda jobs, paused, target, **rest: real(jobs, (), target, **rest))


def stores_in_another_order(patch: pytest.MonkeyPatch) -> None:
    real = MemoryTaskStore.apply

    async def apply(self: Any, op: Any, **rest: Any) -> tuple[Changed, ...]:
        return await real(self, Restore(op.jobs[::-1]) if isinstance(op, Restore) else op, **rest)

    patch.setattr(MemoryTaskStore, "apply", apply)


def drops_what_was_settled(patch: pytest.MonkeyPatch) -> None:
    real = MemoryTaskStore.apply

    async def apply(self: Any, op: Any, **rest: Any) -> Any:
        if isinstance(op, Restore):
            op = Restore(tuple([evolve(job, life=evolve(job.life, settled=None)) for job in op.jobs]))
        return await real(self, op, **rest)

    patch.setattr(MemoryTaskStore, "apply", apply)


@pytest.mark.parametrize(
    "plant", [forgets_the_last_page, forgets_the_pauses, stores_in_another_order, drops_what_was_settled]
)
def test_a_planted_bug_is_found(plant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    async def search() -> None:
        for seed in range(40):
            await check_copy(seed, 100)

    plant(monkeypatch)
    with pytest.raises(AssertionError):
        anyio.run(search)
