"""A job that was enqueued, in the hands of its producer: its id, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from attrs import frozen

from taskweave.core.ids import Duration, JobId, span_us
from taskweave.core.job import Job, Progress, State
from taskweave.core.verbs import CancelJobs, Change, Changed, Enqueued, Load, RetryJobs
from taskweave.exceptions import IllegalTransition, JobNotFound, ResultTimeout, UniqueConflict
from taskweave.view import result_of

if TYPE_CHECKING:
    from taskweave.client import Client

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


@frozen
class Origin(Generic[R_co]):
    """What all handles of one task share: where to ask, and how to read a result."""

    client: Client
    task: str
    decode: Callable[[bytes], R_co]


class Handle(Generic[R_co]):
    """One job's id, and questions to its store; it holds nothing that has to be closed.

    `enqueued` says what the store answered: `handle.enqueued.deduplicated` is true where a job with this id or unique
    key was there before, and `id` is then that job's. All methods raise NotOpen and StoreError.
    """

    __slots__ = ("_origin", "enqueued", "id")

    def __init__(self, origin: Origin[R_co], enqueued: Enqueued) -> None:
        self._origin = origin
        self.enqueued = enqueued
        self.id: JobId = enqueued.id

    def __repr__(self) -> str:
        return f"<Handle {self._origin.task} {self.id}>"

    @property
    def task(self) -> str:
        return self._origin.task

    @property
    def deduplicated(self) -> bool:
        """Whether the job, or another with its unique key, was there before this enqueue."""
        return self.enqueued.deduplicated

    async def result(self, *, timeout: Duration | None = None) -> R_co:
        """Return what the task returned, once it has; cancelling the wait leaves the job, and nothing else, behind.

        Raises JobFailed, JobCancelled, JobExpired, JobLost as the job ended; ResultExpired, JobNotFound where it is
        gone; ResultTimeout when `timeout` is over (the job goes on); DecodeError.
        """
        job = await wait_ended(self._origin.client, self.id, timeout)
        result: R_co = result_of(job, self._origin.decode)
        return result

    async def status(self) -> State:
        """Raises JobNotFound."""
        return (await load(self._origin.client, self.id)).state

    async def progress(self) -> Progress | None:
        """What the running attempt told of itself, or None. Raises JobNotFound."""
        hold = (await load(self._origin.client, self.id)).life.hold
        return None if hold is None else hold.progress

    async def cancel(self, reason: str = "cancelled") -> bool:
        """True if the job is cancelled, or (running) asked to stop; False if it had ended. Raises JobNotFound."""
        return await cancel(self._origin.client, self.id, reason)

    async def retry(self) -> None:
        """Run a job again that ended without success. Raises IllegalTransition, UniqueConflict, JobNotFound."""
        await retry(self._origin.client, self.id)

    def result_sync(self, *, timeout: Duration | None = None) -> R_co:
        """As `result`, for programs without an event loop. Raises SyncInsideLoop inside one."""
        return self._blocking("result", lambda: self.result(timeout=timeout))

    def status_sync(self) -> State:
        return self._blocking("status", self.status)

    def progress_sync(self) -> Progress | None:
        return self._blocking("progress", self.progress)

    def cancel_sync(self, reason: str = "cancelled") -> bool:
        return self._blocking("cancel", lambda: self.cancel(reason))

    def retry_sync(self) -> None:
        self._blocking("retry", self.retry)

    def _blocking(self, name: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._origin.client.blocking(f"handle.{name}_sync()", f"handle.{name}()", ask)


async def wait_ended(client: Client, id: JobId, timeout: Duration | None) -> Job:
    """The job once it has ended. Raises JobNotFound, ResultTimeout."""
    seconds = None if timeout is None else span_us(timeout, "timeout") / 1e6
    if seconds == 0:
        job = await load(client, id)
        if job.finished:
            return job
        raise ResultTimeout(id, 0.0, job.state.value)
    results = client.results
    with results.waiter((id,)) as waiter:
        with anyio.move_on_after(seconds):
            ((_, ended),) = await results.next_ended(waiter)
            if ended is None:
                raise JobNotFound(id)
            return ended
        seen = waiter.seen.get(id)
        raise ResultTimeout(id, seconds or 0.0, seen.value if seen else "unanswered")


async def load(client: Client, id: JobId) -> Job:
    """Raises JobNotFound."""
    (job,) = await client.apply(Load((id,)))
    if job is None:
        raise JobNotFound(id)
    return job


async def cancel(client: Client, id: JobId, reason: str) -> bool:
    (changed,) = await client.apply(CancelJobs((id,), reason))
    if changed.change is Change.UNKNOWN:
        raise JobNotFound(id)
    return changed.change in (Change.DONE, Change.REQUESTED)


async def retry(client: Client, id: JobId) -> None:
    check_changed(await client.apply(RetryJobs((id,))), "be retried")


def check_changed(answers: Iterable[Changed], verb: str) -> None:
    """Turn a refusal into its error. Raises JobNotFound, IllegalTransition, UniqueConflict."""
    for changed in answers:
        match changed.change:
            case Change.UNKNOWN:
                raise JobNotFound(changed.id)
            case Change.REFUSED:
                raise IllegalTransition(changed.state.value if changed.state else "unknown", verb)
            case Change.KEY_TAKEN:
                raise UniqueConflict("its unique key", changed.holder or "unknown")
            case _:
                pass
