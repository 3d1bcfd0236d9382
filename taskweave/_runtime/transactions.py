"""A task's own transaction: its writes and its success commit together, or neither does.

Theory
  The success is settled as the last statement of the transaction, guarded by the fence like any settlement. So the
  database itself decides: if it commits, the job has succeeded and its writes are there; if the job is another
  worker's by now, the settlement is refused and the writes are undone with it. Effects are committed at most once,
  and exactly once if and only if the job succeeded.
Rules
  decided    what the transaction decided is the run's end, whatever its function returns or raises afterwards
  bounded    half a lease, since on some stores an open transaction keeps all other writers waiting; and as much to
             wait for its beginning
  unknown    a commit whose answer was lost is found out: a renewal waits for the row that the lost transaction held,
             and either extends the lease (the transaction came to nothing) or says that the lease is gone; then the
             job's token says who settled it. As long as the store cannot tell, it is asked again, for half a lease;
             after that the run ends as failed, which the fence refuses if the commit came through after all
Rejected: asking only after the job's row, without the lock: a commit that is still on its way would look like none.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

import anyio
from attrs import define, field, frozen

from taskweave._runtime.ends import RawEnd, encoded
from taskweave._runtime.work import Work
from taskweave.abc import Env, Record, StoreTransaction, TaskStore, Transacts
from taskweave.core.endings import succeeded
from taskweave.core.events import Committed, Ending, Event, RunEnded
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Settled, Spec
from taskweave.core.verbs import Claimed, Exchange, Lease, Load, Op, Renew, Settlement
from taskweave.exceptions import (
    LeaseLost,
    MissingAbility,
    StoreError,
    StoreUnavailable,
    TransactionMisused,
    TransactionTooLong,
)

A = TypeVar("A")

ASK_AGAIN_S: Final = 0.25  # between two questions for the outcome of a commit

log = logging.getLogger("taskweave.worker")


class Transaction:
    """The job's own transaction, for SQL on the store's database; `result` is what the job returns if it commits.

    Placeholders are the driver's: ? on SQLite, $1 on PostgreSQL, %s on MySQL.
    """

    __slots__ = ("_tx", "result")

    def __init__(self, tx: StoreTransaction) -> None:
        self._tx = tx
        self.result: Any = None

    async def execute(self, sql: str, *args: Any) -> int | None:
        """Run one statement; how many rows it changed, None where the database does not say."""
        return await self._tx.execute(sql, *args)

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """Run one statement and return its rows, by position and by name."""
        return await self._tx.fetch(sql, *args)

    async def apply(self, op: Op[A]) -> A:
        """Apply a write of the store in this transaction; `task.options(tx=tx).enqueue(...)` uses it."""
        return await self._tx.apply(op)


class Runs(Protocol):
    """What the transactions of a worker's runs have to tell its runner."""

    def decide(self, end: RunEnded) -> None:
        """This is how the run ends, whatever its function does from here on."""
        ...


@define(eq=False)
class OwnRun:
    """One run, as far as its transaction is concerned."""

    job: Claimed
    work: Work
    runs: Runs
    spawned: list[Spec] = field(factory=list[Spec])
    open: bool = False
    decided: Ending | None = None

    def check_free(self) -> None:
        """Raises TransactionMisused when this run has, or had, its transaction."""
        if self.open:
            raise TransactionMisused("the run's transaction is open already", "use the one that there is")
        if self.decided is not None:
            raise TransactionMisused("the run's transaction has ended the job already", "put all of it into one block")

    def end(self, ending: Ending, raw: RawEnd | None = None) -> RunEnded:
        """Decide how this run ends."""
        self.decided = ending
        end = (raw or RawEnd(ending)).of(self.job.spec.id, self.job.fence, 0.0)
        self.runs.decide(end)
        return end


@frozen
class Transactions:
    """What one worker's transactions need: its store, its member's name, its lease, and its engine's ear."""

    store: TaskStore
    env: Env
    member: str
    lease_us: Micros
    tell: Callable[[Event], None]

    def begin(self, run: OwnRun) -> AbstractAsyncContextManager[Transaction]:
        """The block of this run's transaction. Raises TransactionMisused, MissingAbility."""
        if run.work.run_in != "loop":
            raise TransactionMisused(
                f"ctx.transaction() of {run.work.name} is called outside of the event loop", "use run_in='loop'"
            )
        run.check_free()
        if not isinstance(self.store, Transacts):
            raise MissingAbility(self.store.url, "ctx.transaction()")
        return self._block(run, self.store)

    @asynccontextmanager
    async def _block(self, run: OwnRun, store: Transacts) -> AsyncGenerator[Transaction]:
        run.check_free()
        run.open = True
        own: Transaction | None = None
        settled: RunEnded | None = None
        seconds = self.lease_us / 2 / SECOND
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + seconds) as scope:
                async with store.transaction() as tx:
                    scope.deadline = anyio.current_time() + seconds  # from here on others may be waiting
                    own = Transaction(tx)
                    yield own
                    settled = await self._settle(run, tx, own.result)
            if scope.cancelled_caught and own is None:
                raise StoreUnavailable(self.store.url, f"no transaction could begin within {seconds:g} s")
            if scope.cancelled_caught:
                raise TransactionTooLong(seconds)
        except StoreError as error:
            if settled is None or error.applied != "unknown":
                raise
            if not await self._came_through(succeeded(settled)):
                raise type(error)(error.store, error.problem, applied="no") from error
        finally:
            run.open = False
        assert settled is not None
        self._committed(run, settled)

    async def _settle(self, run: OwnRun, tx: StoreTransaction, value: object) -> RunEnded:
        """Settle the success inside the transaction. Raises LeaseLost, NotSerializable."""
        result = encoded(run.work.codec, value)
        if isinstance(result, RawEnd):
            run.end(result.ending, result)
            raise TransactionMisused("tx.result cannot be stored", "pass plain data: " + _problem(result))
        ended = RawEnd(Ending.COMMITTED, result, spawn=tuple(run.spawned)).of(run.job.spec.id, run.job.fence, 0.0)
        answer = await tx.apply(self._exchange((succeeded(ended),)))
        if answer.refused:
            run.end(Ending.REFUSED)
            raise LeaseLost(run.job.spec.id)
        return ended

    def _exchange(self, settle: tuple[Settlement, ...]) -> Exchange:
        """An exchange that settles and claims nothing."""
        return Exchange(self.member, self.env.new_id(), 0, (), (), self.lease_us, settle, fragile=0)

    def _committed(self, run: OwnRun, ended: RunEnded) -> None:
        run.end(Ending.COMMITTED, RawEnd(Ending.COMMITTED, ended.result, spawn=ended.spawn))
        self.tell(Committed(ended))

    async def _came_through(self, settlement: Settlement) -> bool:
        """Whether a commit whose answer was lost has happened. Raises StoreError while nobody can tell."""
        lease, until = Lease(settlement.id, settlement.fence), self.env.now() + self.lease_us // 2
        while True:
            try:
                return await self._outcome(lease, settlement)
            except StoreError as error:
                if not error.transient or self.env.now() >= until:
                    raise type(error)(error.store, error.problem, applied="unknown") from error
                log.warning("nobody knows yet whether the transaction of job %s committed: %s", lease.id, error)
            await anyio.sleep(ASK_AGAIN_S * (0.5 + self.env.random()))

    async def _outcome(self, lease: Lease, settlement: Settlement) -> bool:
        renewed = await self.store.apply(Renew(self.member, (lease,), self.lease_us))
        if not renewed.lost:
            return False
        (job,) = await self.store.apply(Load((lease.id,)))
        return job is not None and job.life.settled == Settled(settlement.fence, settlement.digest())


def _problem(end: RawEnd) -> str:
    return "" if end.failure is None else end.failure.message


def final(end: RunEnded, decided: RunEnded, work: Work | None) -> RunEnded:
    """The end that a run's transaction decided, given how its function ended; says so where the two differ."""
    if decided.ending is Ending.COMMITTED and not _agrees(end, decided, work):
        said = end.failure.type if end.failure else end.ending.name.lower()
        log.warning(
            "job %s succeeded with its transaction; what its function did afterwards changes nothing (%s)", end.id, said
        )
    return decided


def _agrees(end: RunEnded, decided: RunEnded, work: Work | None) -> bool:
    if end.ending is not Ending.RETURNED:
        return False
    return end.result == decided.result or (work is not None and end.result == encoded(work.codec, None))
