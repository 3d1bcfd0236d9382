"""App: the tasks of a program, and its way to the store where their jobs live."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, overload

from taskweave import operations, working
from taskweave._codec.wire import read
from taskweave._runtime.loading import refuse_while_loading
from taskweave.abc import Env, TaskStore
from taskweave.client import Client, checked_needs
from taskweave.core.bounds import PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX
from taskweave.core.ids import Duration, JobId
from taskweave.core.job import Job, State
from taskweave.core.verbs import Enqueued, QueueStat
from taskweave.exceptions import InvalidTask, InvalidValue, UnknownTask
from taskweave.handle import Handle, Origin
from taskweave.options import TaskOptions, whole
from taskweave.registration import is_async, register
from taskweave.settings import ExecutorOptions, WorkerSettings, settings_of
from taskweave.task import AsyncTask, Call, SyncTask, Task
from taskweave.view import JobView

if TYPE_CHECKING:
    from typing import Unpack

    from taskweave._runtime.executor import TaskExecutor
    from taskweave._runtime.work import Work
    from taskweave.builder import Builder
    from taskweave.settings import ExecutorOptions

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What `app.task(...)` with options alone gives."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # the narrower overload stands first
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


class App:
    """Registers tasks, checks everything about them at once, and enqueues and finds their jobs.

    `store` is an address (memory:// or sqlite:///path) or a TaskStore; it is opened by `async with app`, once for each
    event loop that does so, and by the `…_sync` methods in a background thread. `workers` is how its workers run.
    `needs` names what the store must be able to do besides ("Transacts", "EnqueuesInside", "Listens"): one that cannot
    is refused when it is opened (MissingAbility), not when the first job would need it.
    Nothing is global: two apps know nothing of each other. Raises InvalidStoreUrl, InvalidInput.
    """

    def __init__(
        self,
        store: str | TaskStore = "sqlite:///taskweave.db",
        *,
        env: Env | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        result_bytes_max: int = RESULT_BYTES_MAX,
        needs: Iterable[str] = (),
        **workers: Unpack[ExecutorOptions],
    ) -> None:
        self._limits = {
            "payload_bytes_max": whole("payload_bytes_max", payload_bytes_max),
            "result_bytes_max": whole("result_bytes_max", result_bytes_max),
        }
        self._settings = settings_of(WorkerSettings(), workers)
        self._client = Client(store, env, payload_bytes_max, checked_needs(needs))
        self._tasks: dict[str, Task[..., Any]] = {}

    def __repr__(self) -> str:
        return f"<App {self.url} {len(self._tasks)} tasks>"

    @staticmethod
    def build() -> Builder:
        """Begin a long configuration step by step: `App.build().store(url).queue("mail", weight=3).build()`."""
        from taskweave.builder import Builder

        return Builder()

    # --- tasks ---

    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /, **options: Unpack[TaskOptions]) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # the narrower overload stands first
    @overload
    def task(self, fn: Callable[P, R], /, **options: Unpack[TaskOptions]) -> SyncTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> Decorator: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function: `@app.task`, `@app.task(queue="mail")`, or `app.task(fn, queue="mail")`.

        Raises InvalidTask, UnknownOption, InvalidInput: whatever can be wrong with a task is found here.
        """
        if fn is not None:
            return self._register(fn, options)

        def decorate(fn: Callable[..., Any]) -> Task[..., Any]:
            return self._register(fn, options)

        return decorate

    @overload
    def add(self, fn: Callable[P, Coroutine[Any, Any, R]], /, **options: Unpack[TaskOptions]) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # the narrower overload stands first
    @overload
    def add(self, fn: Callable[P, R], /, **options: Unpack[TaskOptions]) -> SyncTask[P, R]: ...
    def add(self, fn: Callable[..., Any], /, **options: Any) -> Any:
        """Register a function, which stays as it is: `work = app.add(fn, name="work")`. Raises as `task` does."""
        return self._register(fn, options)

    def _register(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> Task[..., Any]:
        if isinstance(fn, Task):
            raise InvalidTask(fn.name, "it is a task already", "pass the function: app.task(task.fn, name='...')")
        work, plan, codec = register(fn, options, self._limits)
        if work.name in self._tasks:
            raise InvalidTask(work.name, "there is a task of this name", "give one of them another: name='...'")
        task: Task[..., Any]
        if is_async(fn):
            task = AsyncTask[..., Any](work, plan, codec, self._client)
        else:
            task = SyncTask[..., Any](work, plan, codec, self._client)
        self._tasks[work.name] = task
        return task

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The registered tasks by name."""
        return MappingProxyType(self._tasks)

    @property
    def works(self) -> dict[str, Work]:
        """The registered tasks as an executor takes them."""
        return {name: task.work for name, task in self._tasks.items()}

    @property
    def settings(self) -> WorkerSettings:
        """How its workers run."""
        return self._settings

    # --- the store ---

    @property
    def url(self) -> str:
        """The address of the store, without secrets."""
        return self._client.origin.url

    @property
    def env(self) -> Env:
        return self._client.env

    @property
    def store(self) -> TaskStore:
        """The store as opened for the running event loop. Raises NotOpen."""
        return self._client.store

    def another_store(self) -> TaskStore:
        """A new, unopened store on the same jobs."""
        return self._client.origin.another()

    def redirect(self, store: str) -> None:
        """Use the store at this address instead of the app's own; before it is opened. Raises InvalidStoreUrl."""
        self._client.redirect(store)

    async def __aenter__(self) -> Self:
        """Open the store for the running event loop; may be nested. Raises StoreError."""
        await self._client.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    def close_sync(self) -> None:
        """End the background thread of the `…_sync` methods, if there is one; done by itself at exit."""
        self._client.close_sync()

    # --- enqueue ---

    async def enqueue(self, task: str, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Enqueue a task by its name; its arguments are checked all the same. Raises UnknownTask, InvalidArguments."""
        return await self._task(task).enqueue(*args, **kwargs)

    async def enqueue_many(self, calls: Iterable[Call[Any]]) -> list[Handle[Any]]:
        """Enqueue calls of any tasks, in batches of 1,000, each all or nothing.

        Raises InvalidValue for what is no `task.call(...)`, DuplicateId, StoreError.
        """
        waiting = list(calls)
        for number, call in enumerate(waiting):
            if not isinstance(call, Call):
                raise InvalidValue(f"calls[{number}]", call, "a task with its arguments: task.call(...)")
        txs = {id(call.tx): call.tx for call in waiting}
        if len(txs) > 1:
            raise InvalidValue("tx", list(txs.values()), "the same in all calls of one enqueue_many")
        specs = [call.spec() for call in waiting]
        enqueued: list[Enqueued] = await self._client.send(specs, next(iter(txs.values()), None))
        return [Handle(call.origin, each) for call, each in zip(waiting, enqueued, strict=True)]

    def _task(self, name: str) -> Task[..., Any]:
        task = self._tasks.get(name)
        if task is None:
            near = get_close_matches(name, self._tasks, 1) if isinstance(name, str) else []
            raise UnknownTask(name, near[0] if near else None)
        return task

    # --- jobs ---

    def handle(self, id: JobId) -> Handle[Any]:
        """A handle on a job by its id; its result is read as plain JSON data."""
        return Handle(Origin(self._client, "job", lambda result: read(result, "result")), Enqueued(id))

    async def get(self, id: JobId | Handle[Any]) -> JobView:
        """Raises JobNotFound."""
        return self._view(await operations.get(self._client, id))

    async def find(
        self,
        *,
        states: Iterable[State | str] = (),
        queue: str | None = None,
        task: str | Task[..., Any] | None = None,
        tags: Mapping[str, str] | Iterable[str] = (),
        limit: int | None = None,
    ) -> AsyncGenerator[JobView]:
        """Yield the jobs that match all of what is given, newest first; pages stay stable while jobs come and go.

        `async for job in app.find(states=["failed"], tags={"tenant": "acme"}): …`. Raises InvalidValue.
        """
        name = task.name if isinstance(task, Task) else task
        async for job in operations.find(self._client, states, queue, name, tags, limit):
            yield self._view(job)

    async def update(
        self, id: JobId | Handle[Any], *, priority: int | None = None, delay: Duration | None = None
    ) -> None:
        """Change a job that has not started; `delay` counts from now. Raises IllegalTransition, JobNotFound."""
        await operations.update(self._client, id, priority, delay)

    async def wait_for(
        self, ids: Iterable[JobId | Handle[Any]], *, timeout: Duration | None = None
    ) -> AsyncGenerator[JobView]:
        """Yield each of these jobs when it has ended, in whatever way, in the order in which they end.

        Raises JobNotFound, and ResultTimeout when `timeout` is over before the last has ended.
        """
        async for job in operations.wait_for(self._client, ids, timeout):
            yield self._view(job)

    async def check_status(self, ids: Iterable[JobId | Handle[Any]]) -> dict[JobId, State | None]:
        """The states of these jobs at once, without waiting; None where there is no such job."""
        return await operations.check_status(self._client, ids)

    async def cancel(self, id: JobId | Handle[Any], reason: str = "cancelled") -> bool:
        """True if the job is cancelled, or (running) asked to stop; False if it had ended. Raises JobNotFound."""
        return await operations.cancel(self._client, id, reason)

    async def retry(self, id: JobId | Handle[Any]) -> None:
        """Run a job again that ended without success. Raises IllegalTransition, UniqueConflict, JobNotFound."""
        await operations.retry(self._client, id)

    async def delete(self, id: JobId | Handle[Any]) -> None:
        """Remove a job that is not running. Raises IllegalTransition, JobNotFound."""
        await operations.delete(self._client, id)

    def _view(self, job: Job) -> JobView:
        task = self._tasks.get(job.spec.task)
        return JobView(job) if task is None else JobView(job, task.work.codec.decode, task.work.codec.decode_result)

    # --- queues ---

    async def queues(self) -> tuple[QueueStat, ...]:
        """The queues that hold jobs or are paused, by name, with their counts."""
        return await operations.queues(self._client)

    async def pause(self, queue: str) -> bool:
        """Nothing of this queue starts until it is resumed; True if that is new. Raises InvalidName."""
        return await operations.pause(self._client, queue)

    async def resume(self, queue: str) -> bool:
        """True if the queue was paused. Raises InvalidName."""
        return await operations.resume(self._client, queue)

    async def purge(self, queue: str) -> int:
        """Delete the jobs of this queue that have not started, and return how many. Raises InvalidName."""
        return await operations.purge(self._client, queue)

    async def wait_until_idle(self, *, timeout: Duration | None = None) -> None:
        """Return when no job is ready, running or due later in a queue that is not paused. Raises WaitTimeout."""
        await operations.wait_until_idle(self._client, timeout)

    # --- workers ---

    def worker(self, **given: Unpack[ExecutorOptions]) -> AbstractAsyncContextManager[TaskExecutor]:
        """Open the app, and run its jobs in this process for as long as the block lasts.

        It leaves signals alone. At the end of the block it claims nothing more and lets running jobs end within
        `grace`; when the block fails, they go back to their queue at once. What is not given is as the app says, and
        `queues` are then those of its tasks. Raises UnknownOption, InvalidValue, StoreError, WorkerFailed.
        """
        refuse_while_loading()
        settings = settings_of(self._settings, given)
        return working.worker(self._client, self.works, self._queues(), settings)

    def executor(self, **given: Unpack[ExecutorOptions]) -> TaskExecutor:
        """A TaskExecutor of this app's tasks, to be run inside `async with app`; what is given is as for `worker`.

        Raises NotOpen, UnknownOption, InvalidValue.
        """
        refuse_while_loading()
        settings = settings_of(self._settings, given)
        return working.executor_of(self._client, self.works, self._queues(), settings)

    async def run_worker(self, *, signals: bool = True, until_idle: bool = False) -> None:
        """Run the app's jobs until SIGTERM or SIGINT, then drain: the whole of a worker process.

        Raises StoreError, WorkerFailed.
        """
        await working.run_worker(self._client, self.works, self._queues(), self._settings, signals, until_idle)

    def _queues(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["default", *(task.plan.spec.queue for task in self._tasks.values())]))
