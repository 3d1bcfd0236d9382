"""The loop that feeds the engine and performs its effects. It decides nothing.

Events gather in an inbox while the driver is busy and reach the engine as they came; ends of runs, which are many,
reach it as one event. The driver sleeps until something is told or until the engine's one wake-up number.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from taskweave._runtime.keeper import Keeper
from taskweave._runtime.runner import Runner
from taskweave._runtime.watching import Watching
from taskweave.abc import Env, Listens, TaskStore
from taskweave.core.effects import Abandon, Announce, CancelRun, CheckIdle, Effect, Run, SendExchange, Stop
from taskweave.core.engine import Engine
from taskweave.core.events import Ended, Event, ExchangeAnswered, ExchangeFailed, IdleChecked, Progressed, Ticked, Woken
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import State
from taskweave.core.verbs import Count, Exchange, Lease, Maintain, Op
from taskweave.exceptions import StoreError, WorkerFailed

log = logging.getLogger("taskweave.worker")
A = TypeVar("A")


class Driver:
    """One engine at work on one store."""

    def __init__(
        self,
        engine: Engine,
        store: TaskStore,
        env: Env,
        maintain_us: Micros,
        watching: Watching,
    ) -> None:
        self.engine, self._store, self._env = engine, store, env
        self._maintain_us, self._watching = maintain_us, watching
        self._inbox: list[Event] = []
        self._news = anyio.Event()
        self._runner: Runner
        self._keeper: Keeper
        self._group: TaskGroup
        self._problem: str | None = None

    def tell(self, event: Event | None = None) -> None:
        """Hand the engine an event, or only wake the driver (the runner keeps its ends itself)."""
        if event is not None:
            self._inbox.append(event)
        self._news.set()

    async def run(self, runner: Runner, keeper: Keeper) -> None:
        """Work until the engine stops. Raises WorkerFailed when a store error that cannot pass ended it."""
        self._runner, self._keeper = runner, keeper
        async with anyio.create_task_group() as group:
            self._group = group
            await group.start(runner.serve)
            group.start_soon(self._listen)
            group.start_soon(self._maintain)
            self._perform(self.engine.handle(Ticked(), self._env.now()))
            while not self.engine.stopped:
                await self._sleep()
                for event in self._take():
                    self._perform(self.engine.handle(event, self._env.now()))
            group.cancel_scope.cancel()
        if self._problem is not None:
            raise WorkerFailed(self._problem)

    def _take(self) -> list[Event]:
        events, self._inbox = self._inbox, []
        if self._runner.ended:
            events.append(Ended(self._runner.take_ended()))
        if self._runner.reports:
            events.append(Progressed(self._runner.take_reports()))
        return events or [Ticked()]

    async def _sleep(self) -> None:
        """Return at news, or when the engine wants to be woken."""
        if not self._news.is_set():
            at = self.engine.wake_at()
            seconds = inf if at is None else (at - self._env.now()) / SECOND
            if seconds > 0:
                with anyio.move_on_after(seconds):
                    await self._news.wait()
        if self._news.is_set():
            self._news = anyio.Event()

    # --- effects --------------------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Run(jobs, sent_at):
                    self._keeper.hold(jobs, sent_at)
                    self._runner.start(jobs)
                case SendExchange(request):
                    self._group.start_soon(self._exchange, request)
                case Announce(settled, refused):
                    self._keeper.release([Lease(one.id, one.fence) for one in settled])
                    self._keeper.release(refused)
                    if refused:
                        log.warning("%d settlements were refused: other workers own these jobs now", len(refused))
                    if self._watching:
                        self._watching.settled(settled)
                case CancelRun(id, fence, _):
                    self._runner.cancel(id, fence)
                case Abandon(id, fence):
                    log.warning("job %s ignores its cancellation and was left behind; its slot stays taken", id)
                    self._keeper.release((Lease(id, fence),))
                case CheckIdle(queues):
                    self._group.start_soon(self._check_idle, queues)
                case Stop(problem):
                    self._problem = problem
        if self._watching:
            self._watching.slots(self.engine.used, self.engine.settings.slots)

    async def _exchange(self, request: Exchange) -> None:
        try:
            answer = await self._call(request)
        except StoreError as error:
            problem = str(error)
            if error.transient:
                log.warning("the store did not answer, trying again: %s", problem)
            self.tell(ExchangeFailed(request.claim_id, problem, error.transient, self._env.random()))
        else:
            self.tell(ExchangeAnswered(request.claim_id, answer))

    async def _check_idle(self, queues: tuple[str, ...]) -> None:
        try:
            stats = await self._call(Count())
        except StoreError as error:
            log.warning("the store did not answer, trying again: %s", error)
            self.tell(IdleChecked(leased=True))
        else:
            self.tell(IdleChecked(any(stat.queue in queues and stat.count(State.RUNNING) for stat in stats.queues)))

    async def _call(self, op: Op[A]) -> A:
        """One store call, measured for the observers."""
        if not self._watching:
            return await self._store.apply(op)
        began, problem = self._env.now(), None
        try:
            return await self._store.apply(op)
        except StoreError as error:
            problem = error.code
            raise
        finally:
            self._watching.store_called(op.name, self._env.now() - began, problem)

    # --- duties ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Pass the store's hints on; without them, or when they fail, the engine polls."""
        if not isinstance(self._store, Listens):
            return
        queues = tuple(queue for queue, _ in self.engine.settings.queues)
        while True:
            try:
                async with self._store.listen(queues) as wakeups:
                    while True:
                        await wakeups.wait()
                        self.tell(Woken())
            except StoreError as error:
                log.warning("hints are lost, polling: %s", error)
                await anyio.sleep(self.engine.settings.poll_us / SECOND)

    async def _maintain(self) -> None:
        """Promote, reap, expire and prune, once an interval; safe when several workers do it."""
        request = Maintain(self.engine.settings.lease_us)
        while True:
            more = False
            try:
                more = (await self._call(request)).more
            except StoreError as error:
                log.warning("maintenance failed, trying again: %s", error)
            await anyio.sleep(0 if more else self._maintain_us / SECOND)
