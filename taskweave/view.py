"""One job as users see it: what was asked for and what became of it, with datetimes and decoded values."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import field, frozen

from taskweave._codec import wire
from taskweave.core.ids import JobId, Micros
from taskweave.core.job import Attempt, Failure, Job, Progress, State
from taskweave.exceptions import (
    DecodeError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    ResultExpired,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at: Micros) -> datetime:
    """An instant as an aware datetime in UTC, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=at)


def _maybe(at: Micros | None) -> datetime | None:
    return None if at is None else moment(at)


@frozen
class AttemptView:
    """How one start ended, or that an operator revived the job (`ending` "revive")."""

    attempt: int
    ending: str
    member: str
    started_at: datetime
    ended_at: datetime
    error: Failure | None
    reason: str | None

    @classmethod
    def of(cls, attempt: Attempt) -> AttemptView:
        return cls(
            attempt.attempt,
            attempt.verb.value,
            attempt.member,
            moment(attempt.started_at),
            moment(attempt.ended_at),
            attempt.error,
            attempt.reason,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "ending": self.ending,
            "member": self.member,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "error": _failure_json(self.error),
            "reason": self.reason,
        }


@frozen
class JobView:
    """A consistent picture of one job at one instant; it does not follow the job.

    Arguments and results are decoded by the task, where it is registered in this program, and as plain JSON otherwise.
    """

    job: Job
    _decode: Callable[[bytes, str, int], tuple[tuple[Any, ...], dict[str, Any]]] | None = field(
        default=None, repr=False, eq=False
    )
    _decode_result: Callable[[bytes], Any] | None = field(default=None, repr=False, eq=False)

    @property
    def id(self) -> JobId:
        return self.job.spec.id

    @property
    def task(self) -> str:
        return self.job.spec.task

    @property
    def queue(self) -> str:
        return self.job.spec.queue

    @property
    def priority(self) -> int:
        return self.job.spec.priority

    @property
    def state(self) -> State:
        return self.job.state

    @property
    def finished(self) -> bool:
        return self.job.finished

    @property
    def tags(self) -> Mapping[str, str]:
        return dict(self.job.spec.tags)

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments. Raises DecodeError."""
        return self._arguments()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The named arguments. Raises DecodeError."""
        return self._arguments()[1]

    @property
    def attempt(self) -> int:
        """How many attempts have been spent, a running one included."""
        return self.job.life.attempt

    @property
    def max_attempts(self) -> int:
        return self.job.spec.max_attempts

    @property
    def progress(self) -> Progress | None:
        """Of the running attempt, if it told any."""
        return self.job.life.hold.progress if self.job.life.hold else None

    @property
    def cancel_requested(self) -> str | None:
        """Why a running job was asked to stop, or None."""
        return self.job.life.hold.cancel if self.job.life.hold else None

    @property
    def created_at(self) -> datetime:
        return moment(self.job.created_at)

    @property
    def due_at(self) -> datetime:
        """When it may next start, or was last due."""
        return moment(self.job.life.run_at)

    @property
    def expires_at(self) -> datetime | None:
        return _maybe(self.job.expires_at)

    @property
    def started_at(self) -> datetime | None:
        """Of the running attempt, or of the last one of a finished job."""
        life = self.job.life
        if life.hold is not None:
            return moment(life.hold.started_at)
        return _maybe(life.end.started_at) if life.end is not None else None

    @property
    def finished_at(self) -> datetime | None:
        return moment(self.job.life.end.finished_at) if self.job.life.end else None

    @property
    def error(self) -> Failure | None:
        """What ended it, or the last failure of a job that will be tried again."""
        life = self.job.life
        if life.end is not None and life.end.error is not None:
            return life.end.error
        return next((each.error for each in reversed(life.history) if each.error is not None), None)

    @property
    def cause(self) -> str | None:
        return self.job.life.end.cause if self.job.life.end else None

    @property
    def reason(self) -> str | None:
        return self.job.life.end.reason if self.job.life.end else None

    @property
    def history(self) -> tuple[AttemptView, ...]:
        """The attempts that did not succeed, oldest first, at most the last ten."""
        return tuple(AttemptView.of(each) for each in self.job.life.history)

    @property
    def result(self) -> Any:
        """What the task returned. Raises the JobError that says why there is none, DecodeError."""
        return result_of(self.job, self._decode_result or _plain_result)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; what cannot be decoded stands as {"undecodable": base64}."""
        spec, end = self.job.spec, self.job.life.end
        return {
            "id": spec.id,
            "task": spec.task,
            "queue": spec.queue,
            "state": self.state.value,
            **_arguments_json(spec.payload),
            "priority": spec.priority,
            "tags": dict(spec.tags),
            "attempt": self.attempt,
            "max_attempts": spec.max_attempts,
            "created_at": self.created_at.isoformat(),
            "due_at": self.due_at.isoformat(),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "expires_at": _iso(self.expires_at),
            "result": None if end is None or end.result is None else _plain(end.result),
            "result_dropped": end.result_dropped if end else None,
            "error": _failure_json(self.error),
            "cause": self.cause,
            "reason": self.reason,
            "history": [each.to_json() for each in self.history],
        }

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        spec = self.job.spec
        if self._decode is not None:
            return self._decode(spec.payload, spec.codec, spec.version)
        return wire.arguments(spec.payload)


def result_of(job: Job, decode: Callable[[bytes], Any]) -> Any:
    """The result of a finished job, or the error that says why there is none. Raises JobError, DecodeError."""
    end = job.life.end
    if end is None:
        raise ResultExpired(job.id, f"it is still {job.state.value}")
    if job.state is State.SUCCEEDED:
        if end.result is None:
            raise ResultExpired(job.id, end.result_dropped or "it was dropped")
        return decode(end.result)
    raise failure_of(job)


def failure_of(job: Job) -> JobError:
    """The error of a job that ended without success."""
    end, life = job.life.end, job.life
    assert end is not None
    match life.state:
        case State.CANCELLED:
            return JobCancelled(job.id, end.reason or "cancelled")
        case State.EXPIRED:
            return JobExpired(job.id)
        case State.LOST:
            return JobLost(job.id)
        case _:
            error = end.error or Failure("", end.reason or "")
            return JobFailed(
                job.id,
                job.spec.task,
                end.cause or "failed",
                life.attempt,
                error.type or None,
                error.message or None,
                error.traceback or None,
            )


def _plain_result(result: bytes) -> Any:
    return wire.read(result, "result")


def _arguments_json(payload: bytes) -> dict[str, Any]:
    try:
        args, kwargs = wire.arguments(payload)
    except DecodeError:
        return {"args": [{"undecodable": base64.b64encode(payload).decode()}], "kwargs": {}}
    return {"args": list(args), "kwargs": kwargs}


def _plain(document: bytes) -> Any:
    try:
        return wire.read(document, "document")
    except DecodeError:
        return {"undecodable": base64.b64encode(document).decode()}


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _failure_json(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"type": failure.type, "message": failure.message, "traceback": failure.traceback}
