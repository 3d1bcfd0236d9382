"""Runs attempts: one function each, in the loop, a thread, a process, or the user's own mode.

Theory
  Residents. A task per job costs more than most of what a queue does for a job, so a few resident tasks run job
  after job. A resident that is about to be suspended by a job's first real await wakes another one if jobs are
  waiting: jobs that never wait cost no task switch, and jobs that do are as concurrent as there are slots.
  One cancel scope per resident, not per job: it is replaced after it was used.
  One context per job: each step of a job runs in a copy of the worker's context, so that context variables do not
  leak from job to job although they share a task.
Rules
  Every job handed to `start` is answered by exactly one RunEnded, whatever its function does.
  A resident that has not been suspended for YIELD_US gives the loop a turn between two jobs.
Rejected: anyio's memory stream between driver and residents (a wake-up per job); a scope and a task per job.
"""

from __future__ import annotations

import contextvars
import logging
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeGuard

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from taskweave._runtime.ctx import Ctx, Facts, placed
from taskweave._runtime.ends import encoded, raised
from taskweave._runtime.modes import Modes
from taskweave._runtime.transactions import OwnRun, Transaction, Transactions, final
from taskweave._runtime.watching import Watching
from taskweave._runtime.work import Work
from taskweave.abc import Env
from taskweave.core.events import Ending, RunEnded
from taskweave.core.ids import MILLISECOND, Fence, JobId, Micros
from taskweave.core.job import Progress, Spec
from taskweave.core.verbs import Claimed, LeaseProgress
from taskweave.exceptions import DecodeError
from taskweave.observe.logging import JobFields, current

YIELD_US: Final[Micros] = MILLISECOND

log = logging.getLogger("taskweave.worker")


@define
class Voice:
    """The sink of one run in this process."""

    job: Claimed
    work: Work
    runner: Runner
    spawned: list[Spec] = field(factory=list[Spec])
    own: OwnRun | None = None

    def progress(self, progress: Progress) -> None:
        self.runner.reports[self.job.id] = LeaseProgress(self.job.id, self.job.fence, progress)
        self.runner.tell()

    def spawn(self, spec: Spec) -> None:
        if self.own is not None and not self.own.open:
            self.own.check_free()
        self.spawned.append(spec)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        if self.own is None:
            self.own = OwnRun(self.job, self.work, self.runner, self.spawned)
        return self.runner.transactions.begin(self.own)


class Runner:
    """Runs what it is given until it is closed; `tell` is called when `ended` or `reports` has something new."""

    def __init__(
        self,
        works: Mapping[str, Work],
        env: Env,
        modes: Modes,
        tell: Callable[[], None],
        watching: Watching,
        transactions: Transactions,
    ) -> None:
        self.ended: list[RunEnded] = []
        self.reports: dict[JobId, LeaseProgress] = {}
        self.tell = tell
        self.obeys_signals = False  # the worker drains at SIGINT, which then raises nothing in any task
        self.stepping: Claimed | None = None  # whose code holds the loop right now, for whoever finds it blocked
        self._works, self._env, self._modes, self._watching = works, env, modes, watching
        self.transactions, self._member = transactions, transactions.member
        self._pending: deque[Claimed] = deque()
        self._idle: list[anyio.Event] = []
        self._scopes: dict[tuple[JobId, Fence], anyio.CancelScope] = {}
        self._stopped: set[tuple[JobId, Fence]] = set()  # cancelled before they were begun
        self._decided: dict[tuple[JobId, Fence], RunEnded] = {}  # ended by their own transaction, and still running
        self._residents = 0
        self._yielded: Micros = 0
        self._group: TaskGroup | None = None

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run residents until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            task_status.started()
            await anyio.sleep_forever()

    def start(self, jobs: Sequence[Claimed]) -> None:
        self._pending.extend(jobs)
        self._wake_one()

    def cancel(self, id: JobId, fence: Fence) -> None:
        """Tell a run to stop; it answers with its end, in its own time."""
        scope = self._scopes.get((id, fence))
        if scope is not None:
            scope.cancel()
        elif any(job.spec.id == id and job.fence == fence for job in self._pending):
            self._stopped.add((id, fence))

    def take_ended(self) -> tuple[RunEnded, ...]:
        ended, self.ended = tuple(self.ended), []
        return ended

    def take_reports(self) -> tuple[LeaseProgress, ...]:
        reports, self.reports = tuple(self.reports.values()), {}
        return reports

    # --- residents ------------------------------------------------------------------------------------------------

    def _wake_one(self) -> None:
        if self._idle:
            self._idle.pop().set()
        elif self._group is not None:
            self._residents += 1
            self._group.start_soon(self._resident, name=f"taskweave resident {self._residents}")

    def _suspended(self) -> None:
        """A job is about to wait: others may start."""
        self._yielded = self._env.now()
        if self._pending:
            self._wake_one()

    async def _resident(self) -> None:
        while True:
            with anyio.CancelScope() as scope:
                while not scope.cancel_called:
                    if not self._pending:
                        event = anyio.Event()
                        self._idle.append(event)
                        await event.wait()
                        self._yielded = self._env.now()
                    elif self._env.now() - self._yielded > YIELD_US:
                        await anyio.lowlevel.checkpoint()
                        self._yielded = self._env.now()
                    if self._pending:
                        await self._attempt(self._pending.popleft(), scope)

    async def _attempt(self, job: Claimed, scope: anyio.CancelScope) -> None:
        """One attempt, from its bytes to its RunEnded."""
        key = (job.spec.id, job.fence)
        if key in self._stopped:
            self._stopped.discard(key)
            self._end(job, RunEnded(*key, Ending.STOPPED, reason="it was stopped before it began"), 0)
            return
        began = self._env.now()
        self._scopes[key] = scope
        if self._watching:
            self._watching.started((job,))
        interrupt: BaseException | None = None
        try:
            end = await self._run(job)
        except anyio.get_cancelled_exc_class() as error:
            if not self._being_cancelled(scope):  # the task's own, e.g. of an asyncio future that it cancelled
                end = self._raised(job, error)
            else:
                end, interrupt = RunEnded(*key, Ending.STOPPED), error
        except KeyboardInterrupt as error:
            if self._is_own(job):
                end = self._raised(job, error)
            else:
                end, interrupt = RunEnded(*key, Ending.STOPPED, reason="interrupted"), error
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is the end of its attempt, as data
            end = self._raised(job, error)
        finally:
            del self._scopes[key]
        decided = self._decided.pop(key, None)
        if decided is not None:
            end = final(end, decided, self._works.get(job.spec.task))
        self._end(job, end, self._env.now() - began)
        if interrupt is not None:
            raise interrupt

    def _is_own(self, job: Claimed) -> bool:
        """Whether a KeyboardInterrupt is of the task's making: Ctrl-C raises none in threads, nor where it drains."""
        work = self._works.get(job.spec.task)
        return self.obeys_signals or (work is not None and work.run_in != "loop")

    def _being_cancelled(self, scope: anyio.CancelScope) -> bool:
        return scope.cancel_called or (self._group is not None and self._group.cancel_scope.cancel_called)

    def decide(self, end: RunEnded) -> None:
        """The run ends so, whatever its function does from here on."""
        self._decided[end.id, end.fence] = end

    def _end(self, job: Claimed, end: RunEnded, ran_us: Micros) -> None:
        self.reports.pop(job.spec.id, None)
        self.ended.append(end)
        self.tell()
        if self._watching:
            self._watching.ended(end, job, ran_us)

    # --- one attempt ----------------------------------------------------------------------------------------------

    async def _run(self, job: Claimed) -> RunEnded:
        spec = job.spec
        work = self._works.get(spec.task)
        if work is None:
            return self._unfit(job, "unknown_task", f"no task {spec.task!r} is registered in this worker")
        if work.run_in == "process":
            self._suspended()
            voice = Voice(job, work, self)
            mode = await self._modes.process()
            end = await mode.run_raw(work, spec.payload, spec.codec, spec.version, self._facts(job), voice)
            return self._with_children(end.of(spec.id, job.fence, self._env.random()), voice)
        try:
            args, kwargs = work.codec.decode(spec.payload, spec.codec, spec.version)
        except DecodeError as error:
            return self._unfit(job, "bad_payload", error.explain())
        if work.ctx is None:
            value = await self._value(work, job, args, kwargs)
            return self._returned(job, work, value)
        voice = Voice(job, work, self)
        args = placed(work.fn, work.ctx, Ctx(self._facts(job), voice), args, kwargs)
        value = await self._value(work, job, args, kwargs)
        return self._with_children(self._returned(job, work, value), voice)

    async def _value(self, work: Work, job: Claimed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns, in the loop or where its mode runs it."""
        if work.run_in == "loop":
            context = contextvars.copy_context()
            context.run(current.set, self._fields(job))
            value = context.run(self._call, work, job, args, kwargs)
            if _is_coroutine(value):
                return await _stepped(self, job, context, value)
            return value
        self._suspended()
        token = current.set(self._fields(job))
        try:
            return await self._modes.elsewhere(work, args, kwargs)
        finally:
            current.reset(token)

    def _returned(self, job: Claimed, work: Work, value: Any) -> RunEnded:
        result = encoded(work.codec, value)
        if isinstance(result, bytes):
            return RunEnded(job.spec.id, job.fence, Ending.RETURNED, result)
        return result.of(job.spec.id, job.fence, 0.0)

    def _with_children(self, end: RunEnded, voice: Voice) -> RunEnded:
        """The end of a run with the jobs that it enqueued: they come along if, and only if, it succeeded."""
        if voice.spawned and end.ending is Ending.RETURNED:
            return evolve(end, spawn=tuple(voice.spawned))
        return end

    def _call(self, work: Work, job: Claimed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.stepping = job
        try:
            return work.fn(*args, **kwargs)
        finally:
            self.stepping = None

    def _fields(self, job: Claimed) -> JobFields:
        spec = job.spec
        return JobFields(spec.id, spec.task, spec.queue, job.attempt, self._member, spec.trace)

    def _facts(self, job: Claimed) -> Facts:
        spec = job.spec
        return Facts(
            spec.id,
            spec.task,
            spec.queue,
            job.attempt,
            spec.max_attempts,
            job.fence,
            self._env.wall(),
            spec.timeout_us,
            spec.tags,
            spec.trace,
        )

    def _unfit(self, job: Claimed, cause: str, problem: str) -> RunEnded:
        return RunEnded(job.spec.id, job.fence, Ending.UNFIT, cause=cause, reason=problem)

    def _raised(self, job: Claimed, error: BaseException) -> RunEnded:
        return raised(error).of(job.spec.id, job.fence, self._env.random())


def _is_coroutine(value: Any) -> TypeGuard[Coroutine[Any, Any, Any]]:
    return type(value) is types.CoroutineType or isinstance(value, Coroutine)


@types.coroutine
def _stepped(
    runner: Runner, job: Claimed, context: contextvars.Context, coroutine: Coroutine[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Await a job's coroutine in its own context, marking who holds the loop while it does."""
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    first = True
    while True:
        runner.stepping = job
        try:
            yielded = context.run(step, value)
        except StopIteration as stop:
            return stop.value
        finally:
            runner.stepping = None
        if first:
            first = False
            runner._suspended()
        try:
            value = yield yielded
            step = coroutine.send
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - passed on into the coroutine, as `await` itself does
            value, step = error, coroutine.throw
