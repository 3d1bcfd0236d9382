"""The protocols that others may implement. A store that lacks an ability does not implement its protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, Self, TypeVar, runtime_checkable

from taskweave.core.events import RunEnded
from taskweave.core.ids import JobId, Micros
from taskweave.core.verbs import Claimed, Enqueue, Enqueued, Op, Settlement, SourceOp

A = TypeVar("A")


class Clock(Protocol):
    """Wall time in microseconds since 1970, UTC. Memory and SQLite take store time from it."""

    def wall(self) -> Micros: ...


class Env(Clock, Protocol):
    """The one clock and the one source of randomness and ids of a process; a simulator brings its own."""

    def now(self) -> Micros:
        """Monotonic microseconds."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def new_id(self) -> JobId:
        """A fresh UUIDv7."""
        ...


class Wakeups(Protocol):
    """Hints that something changed, for as long as the listening lasts."""

    async def wait(self) -> None:
        """Return when something may have changed since the last return. A hint: it may be late, early, or lost."""
        ...


class Source(Protocol):
    """What a worker needs: exchange, renew and enqueue. Brokers and foreign protocols are Sources too."""

    async def apply(self, op: SourceOp[A], *, at: Micros | None = None) -> A: ...


@runtime_checkable
class Listens(Protocol):
    """The ability to be told of changes; without it a worker polls."""

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[Wakeups]: ...


class TaskStore(Protocol):
    """Where jobs live: every op is atomic, and means what `core.queue.Queue.apply` says.

    A store is opened and closed by `async with`, and used from the runtime that opened it. `at` replaces store time
    for one op; the conformance suite alone uses it. Raises StoreError (`transient` tells whether to try again,
    `applied` whether the op may have taken effect) and InvalidInput.
    """

    @property
    def url(self) -> str:
        """The address without secrets, for messages."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def apply(self, op: Op[A], *, at: Micros | None = None) -> A: ...

    def another(self) -> TaskStore:
        """A new, unopened store on the same jobs, for another thread or event loop."""
        ...


class Record(Protocol):
    """One row of an answer: `row[0]` and `row["name"]`."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def keys(self) -> Any: ...


@runtime_checkable
class StoreTransaction(Protocol):
    """A transaction of the store's own database, for SQL of the user's and for ops; it ends with its block.

    Placeholders are the driver's: ? on SQLite, $1 on PostgreSQL, %s on MySQL. What the SQL does wrong is raised as the
    driver's own error; StoreError is raised where the database is lost.
    """

    async def execute(self, sql: str, *args: Any) -> int | None:
        """Run one statement; how many rows it changed, None where the database does not say."""
        ...

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """Run one statement and return its rows."""
        ...

    async def apply(self, op: Op[A]) -> A:
        """Apply a write of the store inside this transaction: it happens with the commit, or not at all."""
        ...


@runtime_checkable
class Transacts(Protocol):
    """The ability to share a transaction between the user's data and the jobs, which live in one database."""

    def transaction(self) -> AbstractAsyncContextManager[StoreTransaction]:
        """Commit at the normal end of the block, roll back at any other: an exception, a cancellation.

        A commit is not cancelled once it was begun; one whose outcome is unknown raises StoreError with
        `applied="unknown"`. Raises NotOpen, StoreError.
        """
        ...


@runtime_checkable
class EnqueuesInside(Protocol):
    """The ability to enqueue by a connection of the user's own, inside the transaction that is open there."""

    async def enqueue_inside(self, tx: object, op: Enqueue) -> tuple[Enqueued, ...]:
        """The jobs appear with the user's commit, and never after a rollback. The store need not be open.

        With a synchronous connection it never suspends. Raises InvalidValue for what is no such connection, or one
        that is not in a transaction; StoreError.
        """
        ...


# what a store may be able to do besides, by name
ABILITIES: Final[Mapping[str, type]] = {
    "Listens": Listens,
    "Transacts": Transacts,
    "EnqueuesInside": EnqueuesInside,
}


def lacking(store: object, needs: Iterable[str]) -> list[str]:
    """The abilities among these that the store does not have."""
    return [name for name in needs if not isinstance(store, ABILITIES[name])]


class Observer(Protocol):
    """Told by the driver of what is going on; a failing observer is logged once and never disturbs a job."""

    def started(self, jobs: Sequence[Claimed]) -> None: ...

    def ended(self, run: RunEnded, job: Claimed, run_us: Micros) -> None: ...

    def settled(self, settled: Sequence[Settlement]) -> None:
        """These ends are durable: counts made here equal the store's."""
        ...

    def store_called(self, verb: str, took_us: Micros, problem: str | None) -> None: ...

    def slots(self, used: int, total: int) -> None: ...
