"""Task: a registered function. It stays a plain function when called; enqueue and call make jobs of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Self, TypeVar, cast

from attrs import evolve, field, frozen

from taskweave._codec.signature import SignatureCodec
from taskweave.core.ids import JobId
from taskweave.core.job import Progress, Spec
from taskweave.core.unique import UniqueKey
from taskweave.exceptions import DuplicateId, InvalidValue, NotOpen
from taskweave.handle import Handle, Origin
from taskweave.options import CallOptions, Plan, check_text

if TYPE_CHECKING:
    from typing import Unpack

    from taskweave._runtime.work import Work
    from taskweave.client import Client

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


@frozen
class Call(Generic[R_co]):
    """A task with arguments that have passed its checks, not yet enqueued; it can be enqueued more than once."""

    origin: Origin[R_co]
    plan: Plan
    payload: bytes
    key: UniqueKey | None = None
    tx: object | None = field(default=None, eq=False, repr=False)  # in whose transaction it is enqueued

    @property
    def task(self) -> str:
        return self.plan.spec.task

    def spec(self, new_id: Callable[[], JobId] | None = None) -> Spec:
        """The job that this call becomes, with an id of its own (`options(id=...)` gives that one)."""
        return self.plan.job(self.plan.id or (new_id or self.origin.client.env.new_id)(), self.payload, self.key)

    async def enqueue(self, *, key: str | None = None) -> Handle[R_co]:
        """Store it as a job, durably, before returning. Raises NotOpen, StoreError, UniqueConflict.

        With `key`, at most one unfinished job of the task has it: calling again returns a handle to that job.
        """
        call = self if key is None else self._keyed(key)
        (enqueued,) = await self.origin.client.send([call.spec()], call.tx)
        return Handle(self.origin, enqueued)

    def enqueue_sync(self, *, key: str | None = None) -> Handle[R_co]:
        """As `enqueue`, for programs without an event loop. Raises SyncInsideLoop inside one."""
        name = f"{self.task.rpartition('.')[2]}.call(...)"
        sync, instead, client = f"{name}.enqueue_sync()", f"{name}.enqueue()", self.origin.client
        if self.tx is None:
            return client.blocking(sync, instead, lambda: self.enqueue(key=key))
        call = self if key is None else self._keyed(key)
        (enqueued,) = client.send_here([call.spec()], self.tx, sync, instead)
        return Handle(self.origin, enqueued)

    def _keyed(self, key: str) -> Call[R_co]:
        unique = UniqueKey(f"{self.task} ={check_text('key', key)}")
        return evolve(self, key=unique)


class Task(Generic[P, R]):
    """A function with its policies: the same function when called, a source of jobs otherwise.

    Arguments are checked against the signature and its types before anything is stored: enqueue, call and their
    variants raise InvalidArguments, NotSerializable and PayloadTooLarge, naming the argument; NotOpen outside of
    `async with app`; StoreError where the store cannot answer.
    """

    __wrapped__: Callable[..., Any]

    def __init__(self, work: Work, plan: Plan, codec: SignatureCodec, client: Client) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), work.fn)
        self.fn = work.fn
        self.work = work
        self._plan, self._codec = plan, codec
        self._tx: object | None = None
        self._origin: Origin[R] = Origin(client, work.name, codec.decode_result)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def plan(self) -> Plan:
        """What all its jobs share, as checked."""
        return self._plan

    def options(self, **changes: Unpack[CallOptions]) -> Self:
        """The same task under other options: `await task.options(delay="1h").enqueue(...)`.

        With `tx`, a connection or session of your own to the store's database, the job is enqueued in the transaction
        that is open there: workers see it after your commit, and never after a rollback.
        Raises UnknownOption, NaiveDatetime, InvalidValue, InvalidName.
        """
        bound = copy(self)
        bound._plan = self._plan.changed(changes)
        bound._tx = changes.get("tx", self._tx)
        if "unique" in changes:
            from taskweave.registration import check_unique

            check_unique(self.name, changes["unique"], self._codec.slots)
        return bound

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Check the arguments now; enqueue it later, or hand it to `ctx.enqueue`."""
        payload, key = self._codec.encode(args, kwargs), self._key(args, kwargs)
        return Call(self._origin, self._plan, payload, key, self._tx)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Store one job, durably, before returning; raises UniqueConflict where its unique key says so."""
        (enqueued,) = await self._origin.client.send([self._spec(args, kwargs)], self._tx)
        return Handle(self._origin, enqueued)

    async def enqueue_many(self, calls: Iterable[tuple[Any, ...]]) -> list[Handle[R]]:
        """Store one job for each tuple of arguments; all are checked before the first is sent.

        They travel in batches of 1,000, each all or nothing, and a batch whose answer was lost is sent again under the
        same ids. An error in the middle carries a note of how many jobs, the first ones, had been stored. To repeat a
        whole call safely, give each job an id: `app.enqueue_many(task.options(id=...).call(...) for ...)`.
        """
        specs, origin = self._specs(calls), self._origin
        return [Handle(origin, enqueued) for enqueued in await origin.client.send(specs, self._tx)]

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """As `enqueue`, for programs without an event loop. Raises SyncInsideLoop inside one."""
        if self._tx is not None:
            return self._here("enqueue", [self._spec(args, kwargs)], self._tx)[0]
        return self._blocking("enqueue", lambda: self.enqueue(*args, **kwargs))

    def enqueue_many_sync(self, calls: Iterable[tuple[Any, ...]]) -> list[Handle[R]]:
        """As `enqueue_many`, for programs without an event loop. Raises SyncInsideLoop inside one."""
        if self._tx is not None:
            return self._here("enqueue_many", self._specs(calls), self._tx)
        return self._blocking("enqueue_many", lambda: self.enqueue_many(calls))

    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without a job or a worker; a sync one in a thread.

        A Ctx that is not given is one whose progress goes nowhere and whose `enqueue` raises NotOpen.
        """
        call = functools.partial(self.fn, *args, **self._with_ctx(kwargs))
        if isinstance(self, AsyncTask):
            awaited: R = await call()
            return awaited
        import anyio.to_thread

        value: R = await anyio.to_thread.run_sync(call)
        return value

    def _with_ctx(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        name = self.work.ctx
        if name is None or name in kwargs:
            return kwargs
        from taskweave._runtime.ctx import Ctx, Facts

        spec, env = self._plan.spec, self._origin.client.env
        facts = Facts(
            env.new_id(), spec.task, spec.queue, 1, spec.max_attempts, 1, env.wall(), spec.timeout_us, spec.tags
        )
        return kwargs | {name: Ctx(facts, _Nowhere())}

    def _spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Spec:
        plan = self._plan
        payload = self._codec.encode(args, kwargs)
        return plan.job(plan.id or self._origin.client.env.new_id(), payload, self._key(args, kwargs))

    def _specs(self, calls: Iterable[tuple[Any, ...]]) -> list[Spec]:
        try:
            return self._specs_of(calls)
        except TypeError:
            _check_tuples(calls)
            raise

    def _specs_of(self, calls: Iterable[tuple[Any, ...]]) -> list[Spec]:
        plan, encode, new_id = self._plan, self._codec.encode, self._origin.client.env.new_id
        if plan.unique is not None or plan.id is not None:
            specs = [self._spec(args, {}) for args in calls]
            if plan.id is not None and len(specs) > 1:
                raise DuplicateId(plan.id)
            return specs
        task, queue, shared = plan.spec.task, plan.spec.queue, plan.shared
        # the hot path: one encode, one id and one constructor for each job, nothing else
        return [Spec(new_id(), task, queue, encode(args, {}), *shared) for args in calls]

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> UniqueKey | None:
        unique = self._plan.unique
        return None if unique is None else unique.key_for(self.name, self._codec.values(args, kwargs, unique.by))

    def _here(self, name: str, specs: list[Spec], tx: object) -> list[Handle[R]]:
        """Enqueue by a synchronous connection, in the thread that has it."""
        short, origin = self.name.rpartition(".")[2], self._origin
        sent = origin.client.send_here(specs, tx, f"{short}.{name}_sync(...)", f"{short}.{name}(...)")
        return [Handle(origin, enqueued) for enqueued in sent]

    def _blocking(self, name: str, enqueue: Callable[[], Coroutine[Any, Any, T]]) -> T:
        short = self.name.rpartition(".")[2]
        return self._origin.client.blocking(f"{short}.{name}_sync(...)", f"{short}.{name}(...)", enqueue)


def _check_tuples(calls: object) -> None:
    """After a TypeError: say so if it came from calls that are no tuples. Raises InvalidValue."""
    if not isinstance(calls, Iterable):
        raise InvalidValue("calls", calls, "an iterable of tuples of arguments: [(1,), (2,)]")
    for number, args in enumerate(calls if isinstance(calls, list | tuple) else ()):  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - anything may be in there
        if not isinstance(args, list | tuple):
            raise InvalidValue(f"calls[{number}]", args, "a tuple of arguments: [(1,), (2,)]")


class _Nowhere:
    """Where the words of a run without a job go."""

    def progress(self, progress: Progress) -> None: ...

    def spawn(self, spec: Spec) -> None:
        raise NotOpen("worker")

    def transaction(self) -> NoReturn:
        raise NotOpen("worker")


class AsyncTask(Task[P, R]):
    """A task whose function is async: calling it gives the function's own coroutine."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        coroutine: Coroutine[Any, Any, R] = self.fn(*args, **kwargs)
        return coroutine


class SyncTask(Task[P, R]):
    """A task whose function is sync: calling it runs the function here."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        value: R = self.fn(*args, **kwargs)
        return value
