"""What a task may know and say about its own run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from taskweave.core.bounds import BATCH_MAX
from taskweave.core.ids import JobId, Micros
from taskweave.core.job import Progress, Spec
from taskweave.exceptions import DuplicateId, InvalidValue

if TYPE_CHECKING:
    from taskweave._runtime.transactions import Transaction


class Sink(Protocol):
    """Where a run's words go: the runner's memory, or a pipe to it."""

    def progress(self, progress: Progress) -> None: ...

    def spawn(self, spec: Spec) -> None: ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...


class Spawns(Protocol):
    """A call that can become a job: `task.call(...)`."""

    def spec(self) -> Spec: ...


@frozen
class Facts:
    """The facts of one run; `began_wall` is the worker's clock and only for display."""

    id: JobId
    task: str
    queue: str
    attempt: int
    max_attempts: int
    fence: int
    began_wall: Micros
    timeout_us: Micros | None = None
    tags: tuple[tuple[str, str], ...] = ()
    trace: str | None = None


class _Done:
    """Done already; may be awaited, so that `await ctx.progress(...)` and `ctx.progress(...)` both are right."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield  # makes this a generator function, as __await__ has to return an iterator


_DONE = _Done()


class Ctx:
    """The facts of the run that it is handed to, and the run's voice.

    A parameter annotated `Ctx` receives it. Everything but `transaction`, which needs the loop, works in loop, thread
    and process mode alike; `progress` may be awaited or not.
    """

    __slots__ = ("_facts", "_sink", "_spawned")

    def __init__(self, facts: Facts, sink: Sink) -> None:
        self._facts, self._sink = facts, sink
        self._spawned: set[JobId] | None = None

    def __repr__(self) -> str:
        return f"<Ctx {self.task} {self.id} attempt {self.attempt}>"

    @property
    def id(self) -> JobId:
        return self._facts.id

    @property
    def task(self) -> str:
        return self._facts.task

    @property
    def queue(self) -> str:
        return self._facts.queue

    @property
    def attempt(self) -> int:
        """1 at the first start."""
        return self._facts.attempt

    @property
    def max_attempts(self) -> int:
        return self._facts.max_attempts

    @property
    def fence(self) -> int:
        """Grows with every start of the job: hand it to systems that can refuse a late writer."""
        return self._facts.fence

    @property
    def deadline(self) -> datetime | None:
        """When the timeout will stop this run, by this machine's clock; None without a timeout."""
        facts = self._facts
        if facts.timeout_us is None:
            return None
        return datetime.fromtimestamp(facts.began_wall / 1e6, UTC) + timedelta(microseconds=facts.timeout_us)

    @property
    def tags(self) -> Mapping[str, str]:
        return dict(self._facts.tags)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named after the task; every line carries the job's fields."""
        facts = self._facts
        extra = {"job_id": facts.id, "task": facts.task, "queue": facts.queue, "attempt": facts.attempt}
        return logging.LoggerAdapter(logging.getLogger(f"taskweave.task.{facts.task}"), extra)

    def progress(self, done: float, total: float | None = None, note: str = "") -> Awaitable[None]:
        """Tell how far the run is; stored at most once a second, the latest wins. Raises InvalidValue."""
        for field, value in (("done", done), ("total", total)):
            if value is not None and not (isinstance(value, int | float) and abs(value) < 1e18):
                raise InvalidValue(f"progress {field}", value, "a finite number")
        self._sink.progress(Progress(done, total, str(note)[:200]))
        return _DONE

    def enqueue(self, call: Spawns) -> JobId:
        """Add a child job that comes to be if, and only if, this attempt succeeds: both commit together.

        `await task.enqueue(...)` is immediate instead. Raises DuplicateId, and InvalidValue for more than BATCH_MAX
        children: a store would refuse them together with the success that they belong to.
        """
        if getattr(call, "tx", None) is not None:
            raise InvalidValue("tx", getattr(call, "tx"), "none, since a child commits with its parent's success")  # noqa: B009 - a Spawns may lack it
        spec = call.spec()
        spawned = self._spawned = self._spawned or set()
        if spec.id in spawned:
            raise DuplicateId(spec.id)
        if len(spawned) >= BATCH_MAX:
            raise InvalidValue("children", len(spawned) + 1, f"at most {BATCH_MAX} jobs enqueued by one run")
        spawned.add(spec.id)
        self._sink.spawn(spec)
        return spec.id

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of the store's database in which the job ends: its writes and its success commit together.

        `async with ctx.transaction() as tx: await tx.execute("INSERT ...", 1); tx.result = 2`. At the normal end of
        the block the job has succeeded with `tx.result`, and nothing that follows changes that; at any other end, or
        when the job is another worker's by then (LeaseLost), nothing of it happened. At most half a lease long
        (TransactionTooLong). Raises TransactionMisused outside of the loop and for a second one, MissingAbility where
        the store cannot, StoreError.
        """
        return self._sink.transaction()


def placed(
    fn: Callable[..., Any], name: str, ctx: Ctx, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """Put the Ctx where the function takes it: among its positional arguments, or (changing `kwargs`) by name."""
    at = _position(fn, name)
    if at is not None and at < len(args):
        return (*args[:at], ctx, *args[at:])
    kwargs[name] = ctx
    return args


@lru_cache(maxsize=1024)
def _position(fn: Callable[..., Any], name: str) -> int | None:
    parameters = list(inspect.signature(fn).parameters.values())
    at = next(index for index, parameter in enumerate(parameters) if parameter.name == name)
    return at if parameters[at].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD else None
