"""TaskExecutor: one process that runs jobs, on any store, from the memory store upwards."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeGuard, cast

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus
from attrs import evolve

from taskweave._runtime.driver import Driver
from taskweave._runtime.env import SystemEnv
from taskweave._runtime.keeper import Keeper
from taskweave._runtime.loading import refuse_while_loading
from taskweave._runtime.modes import Modes
from taskweave._runtime.runner import Runner
from taskweave._runtime.transactions import Transactions
from taskweave._runtime.watching import Watching
from taskweave._runtime.work import Work
from taskweave.abc import Env, Observer, TaskStore
from taskweave.core.bounds import check_name
from taskweave.core.engine import Engine, Lane, Settings
from taskweave.core.events import StopRequested
from taskweave.core.ids import MILLISECOND, Duration, Micros, span_us
from taskweave.exceptions import InvalidValue, NotOpen

SLOTS_MAX: Final = 10_000

log = logging.getLogger("taskweave.worker")


class TaskExecutor:
    """Runs every job of its queues that its tasks cover, at least once, each start under its own lease and fence.

    `store` is opened by the caller. `tasks` are what it can run; jobs of other tasks are left to other workers.
    `queues` are names, or names with weights. Spans are durations ("30s"). `grace` is what running jobs get when the
    executor is stopped; what is left then goes back to its queue unharmed. Raises InvalidValue for a bad setting.
    """

    def __init__(
        self,
        store: TaskStore,
        tasks: Mapping[str, Work] | Iterable[Work],
        *,
        env: Env | None = None,
        concurrency: int = 100,
        queues: Iterable[str] | Mapping[str, int] = ("default",),
        lease: Duration = "30s",
        grace: Duration = "30s",
        poll: Duration = "1s",
        maintain: Duration = "1s",
        observers: Sequence[Observer] = (),
        processes: int | None = None,
        name: str | None = None,
    ) -> None:
        works = cast("Mapping[str, Work]", tasks).values() if isinstance(tasks, Mapping) else tasks
        self._works = {work.name: work for work in works}
        self._store = store
        self._env: Env = env or SystemEnv()
        self._grace_us = span_us(grace, "grace")
        self._maintain_us = span_us(maintain, "maintain", least=10 * MILLISECOND)
        self._watching = Watching(observers)
        self._processes = processes
        self.member: Final = f"{check_name('name', name)}-{self._env.new_id()}" if name else self._env.new_id()
        self._settings = Settings(
            self.member,
            queue_weights(queues),
            checked_slots(concurrency),
            span_us(lease, "lease", least=100 * MILLISECOND),
            span_us(poll, "poll", least=MILLISECOND),
        )
        self._driver: Driver | None = None

    async def run(
        self,
        *,
        signals: bool = False,
        until_idle: bool = False,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run jobs until stopped; then every job is settled, or given back, or (after the grace) left to its lease.

        With `signals`, SIGTERM and SIGINT stop it, a second one at once; the process must be this executor's alone.
        With `until_idle` it also ends when its queues hold nothing that is ready, due later, or running anywhere.
        Raises WorkerFailed when the store reports an error that waiting cannot mend, and MissingMainGuard in a child
        process that is still loading the program.
        """
        refuse_while_loading()
        settings = evolve(self._settings, until_idle=until_idle)
        policies = {name: work.retry for name, work in self._works.items()}
        engine = Engine(settings, policies, self._env.new_id, self._lanes())
        driver = self._driver = Driver(engine, self._store, self._env, self._maintain_us, self._watching)
        async with Modes(settings.slots, self._processes) as modes:
            transactions = Transactions(self._store, self._env, self.member, settings.lease_us, driver.tell)
            runner = Runner(self._works, self._env, modes, driver.tell, self._watching, transactions)
            runner.obeys_signals = signals
            keeper = Keeper(
                self._store, self._env, self.member, settings.lease_us, driver.tell, lambda: runner.stepping
            )
            keeper.start()
            try:
                async with anyio.create_task_group() as group:
                    if signals:
                        await group.start(self._obey_signals)
                    log.info("worker %s started: %d tasks, %d slots", self.member, len(policies), settings.slots)
                    task_status.started()
                    await driver.run(runner, keeper)
                    group.cancel_scope.cancel()
            finally:
                self._driver = None
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(keeper.close)
        log.info("worker %s stopped", self.member)

    def _lanes(self) -> tuple[Lane, ...]:
        """Tasks of process mode have as many slots as there are children: none waits for a child in this worker."""
        names = tuple(sorted(name for name, work in self._works.items() if work.run_in == "process"))
        if not names:
            return ()
        from taskweave._runtime.process import processors

        return (Lane(names, self._processes or processors()),)

    async def run_until_idle(self) -> None:
        """Run until nothing is left to do, now or later."""
        await self.run(until_idle=True)

    def stop(self, grace: Duration | None = None) -> None:
        """Begin to drain; called again, give the running jobs back now. From the event loop that runs it.

        Raises NotOpen when it does not run.
        """
        if self._driver is None:
            raise NotOpen("executor")
        grace_us: Micros = self._grace_us if grace is None else span_us(grace, "grace")
        self._driver.tell(StopRequested(grace_us))

    async def _obey_signals(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            task_status.started()
            async for number in received:
                log.info("%s: draining, once more to stop at once", signal.Signals(number).name)
                self.stop()


def checked_slots(concurrency: int) -> int:
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or not 1 <= concurrency <= SLOTS_MAX:
        raise InvalidValue("concurrency", concurrency, f"an integer from 1 to {SLOTS_MAX}")
    return concurrency


def queue_weights(queues: Iterable[str] | Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The queues with their weights, checked. Raises InvalidName, InvalidValue."""
    if isinstance(queues, str):
        queues = (queues,)
    weights = dict(queues) if _are_weighted(queues) else dict.fromkeys(queues, 1)
    if not weights:
        raise InvalidValue("queues", queues, "at least one queue")
    for queue, weight in weights.items():
        check_name("queue", queue)
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 1_000:
            raise InvalidValue(f"queues[{queue!r}]", weight, "a weight from 1 to 1000")
    return tuple(weights.items())


def _are_weighted(queues: Iterable[str] | Mapping[str, int]) -> TypeGuard[Mapping[str, int]]:
    return isinstance(queues, Mapping)
