"""Waiting for jobs to end: one hub for each opened store, whatever the number of waiters.

One of the waiters leads: it asks the store for all jobs that anybody waits for, in as few queries as they fit in, and
hands out what has ended. It asks again after a pause that grows, or at once when the store hints that something
changed or when somebody new waits. When it has what it wanted, or is cancelled, it passes the lead to another waiter.
So nothing runs while nobody waits, no task has to be kept somewhere, and a cancelled waiter leaves nothing behind.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

import anyio
from attrs import define, field

from taskweave.abc import Env, Listens, TaskStore
from taskweave.core.ids import MILLISECOND, JobId, Micros
from taskweave.core.job import Job, State
from taskweave.core.verbs import Load
from taskweave.exceptions import NotOpen, StoreError

POLL_FIRST_US: Final[Micros] = 5 * MILLISECOND
POLL_LAST_US: Final[Micros] = 500 * MILLISECOND
POLL_GROWTH: Final = 1.5
LOAD_MAX: Final = 1_000  # jobs in one query

log = logging.getLogger("taskweave.results")


@define(eq=False)
class Waiter:
    """One who waits for some jobs; `ended` fills with (id, job), the job None where there is none."""

    waiting: set[JobId]
    ended: list[tuple[JobId, Job | None]] = field(factory=list[tuple[JobId, Job | None]])
    seen: dict[JobId, State] = field(factory=dict[JobId, State])
    woken: anyio.Event = field(factory=anyio.Event)

    async def wait_woken(self) -> None:
        await self.woken.wait()
        self.woken = anyio.Event()


class Results:
    """The waiters of one opened store."""

    def __init__(self, store: TaskStore, env: Env) -> None:
        self._store, self._env = store, env
        self._waiters: dict[JobId, list[Waiter]] = {}
        self._everyone: dict[Waiter, None] = {}  # in order of arrival
        self._led = False
        self._nudge = anyio.Event()
        self._closed = False

    @contextmanager
    def waiter(self, ids: Iterable[JobId]) -> Generator[Waiter]:
        """Somebody who waits for these jobs, until the block is left in whatever way."""
        waiter = Waiter(set(ids))
        for id in waiter.waiting:
            self._waiters.setdefault(id, []).append(waiter)
        self._everyone[waiter] = None
        self._nudge.set()
        try:
            yield waiter
        finally:
            for id in waiter.waiting:
                self._forget(id, waiter)
            del self._everyone[waiter]
            self._pass_lead()

    async def next_ended(self, waiter: Waiter) -> list[tuple[JobId, Job | None]]:
        """Return those of the waiter's jobs that have ended since it asked last; at least one. Raises StoreError."""
        while not waiter.ended:
            if self._closed:
                raise NotOpen("app")
            if self._led:
                await waiter.wait_woken()
                continue
            self._led = True
            try:
                await self._lead(waiter)
            finally:
                self._led = False
                self._pass_lead()
        ended, waiter.ended = waiter.ended, []
        return ended

    def close(self) -> None:
        """Wake everyone who still waits: the store is about to be closed, and they get NotOpen."""
        self._closed = True
        self._nudge.set()
        for waiter in self._everyone:
            waiter.woken.set()

    def _forget(self, id: JobId, waiter: Waiter) -> None:
        others = self._waiters[id]
        others.remove(waiter)
        if not others:
            del self._waiters[id]

    def _pass_lead(self) -> None:
        if not self._led:
            for waiter in self._everyone:
                if not waiter.ended:
                    waiter.woken.set()
                    return

    async def _lead(self, leader: Waiter) -> None:
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            if isinstance(self._store, Listens):
                group.start_soon(self._hear, self._store)
            try:
                await self._ask_until_ended(leader)
            except Exception as error:  # noqa: BLE001 - a task group would wrap it; it is raised below, as it is
                failed = error
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def _ask_until_ended(self, leader: Waiter) -> None:
        pause: float = POLL_FIRST_US
        while True:
            self._nudge = anyio.Event()
            began = self._env.now()
            try:
                await self._ask()
            except StoreError as error:
                if not error.transient:
                    raise
                log.warning("waiting for results: %s; asking again", error)
            if leader.ended or self._closed:
                return
            took = self._env.now() - began
            with anyio.move_on_after(pause / 1e6):
                await self._nudge.wait()
            # a busy store hints all the time: asking may take a third of the time, not all of it
            await anyio.sleep(min(2 * took, POLL_LAST_US) / 1e6)
            pause = min(pause * POLL_GROWTH, POLL_LAST_US)

    async def _ask(self) -> None:
        wanted = list(self._waiters)
        for start in range(0, len(wanted), LOAD_MAX):
            some = tuple(wanted[start : start + LOAD_MAX])
            for id, job in zip(some, await self._store.apply(Load(some)), strict=True):
                if job is None or job.finished:
                    self._hand_out(id, job)
                else:
                    for waiter in self._waiters.get(id, ()):
                        waiter.seen[id] = job.state

    def _hand_out(self, id: JobId, job: Job | None) -> None:
        for waiter in self._waiters.pop(id, ()):
            waiter.waiting.discard(id)
            waiter.ended.append((id, job))
            waiter.woken.set()

    async def _hear(self, store: Listens) -> None:
        """Turn the store's hints into nudges; without them the pauses alone decide."""
        try:
            async with store.listen(()) as wakeups:
                while True:
                    await wakeups.wait()
                    self._nudge.set()
        except StoreError as error:
            log.warning("no hints while waiting for results, asking from time to time: %s", error)
