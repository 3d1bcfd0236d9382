"""A job's end, as seen by the one who waits for it."""

from __future__ import annotations

from typing import ClassVar

from attrs import define, field

from taskweave.exceptions._root import TaskweaveError


@define(eq=False, slots=False)
class JobError(TaskweaveError):
    """A job ended otherwise than with a result, or its result cannot be had."""

    code: ClassVar[str] = "TW1300"
    id: str


@define(eq=False, slots=False)
class JobNotFound(JobError, LookupError):
    """There is no job with this id in this store."""

    code: ClassVar[str] = "TW1301"

    def explain(self) -> str:
        return f"no job {self.id}: it was deleted, pruned after its retention, or lives in another store; check both"


@define(eq=False, slots=False)
class JobFailed(JobError):
    """The job is a dead letter: its attempts are spent, or it failed without a retry."""

    code: ClassVar[str] = "TW1302"
    task: str
    cause: str
    attempts: int
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = field(default=None, repr=False)

    def explain(self) -> str:
        error = f": {self.error_type}: {self.error_message}" if self.error_type else ""
        return (
            f"job {self.id} of {self.task} failed ({self.cause}, {self.attempts} attempts){error}; "
            f"see 'taskweave job show {self.id}'"
        )


@define(eq=False, slots=False)
class JobCancelled(JobError):
    """The job was cancelled, by an operator or by itself."""

    code: ClassVar[str] = "TW1303"
    reason: str

    def explain(self) -> str:
        return f"job {self.id} was cancelled: {self.reason}; 'taskweave job retry {self.id}' runs it after all"


@define(eq=False, slots=False)
class JobExpired(JobError):
    """The job's deadline passed before it could start."""

    code: ClassVar[str] = "TW1304"

    def explain(self) -> str:
        return f"job {self.id} passed its deadline before it could start; run more workers or give it more time"


@define(eq=False, slots=False)
class JobLost(JobError):
    """The worker of an at-most-once job vanished while running it; nobody knows how far it came."""

    code: ClassVar[str] = "TW1305"

    def explain(self) -> str:
        return (
            f"the worker of at-most-once job {self.id} vanished and nobody knows whether it finished; "
            f"look at what it did, then decide on 'taskweave job retry {self.id}'"
        )


@define(eq=False, slots=False)
class ResultExpired(JobError):
    """The job succeeded, but its result is no longer kept."""

    code: ClassVar[str] = "TW1306"
    why: str

    def explain(self) -> str:
        return f"job {self.id} succeeded but its result is gone ({self.why}); read it sooner or raise result_ttl"


@define(eq=False, slots=False)
class ResultTimeout(JobError, TimeoutError):
    """The job had not ended when the time to wait for it was over; it goes on."""

    code: ClassVar[str] = "TW1307"
    seconds: float
    state: str

    def explain(self) -> str:
        return (
            f"job {self.id} was still {self.state} after {self.seconds:g} s; it goes on. Wait longer, check that a "
            f"worker runs, or ask 'taskweave job why {self.id}'"
        )


@define(eq=False, slots=False)
class WaitTimeout(TaskweaveError, TimeoutError):
    """Something was waited for and did not happen in time."""

    code: ClassVar[str] = "TW1308"
    what: str
    seconds: float

    def explain(self) -> str:
        return f"waited {self.seconds:g} s for {self.what} in vain; wait longer, or check that a worker runs"


@define(eq=False, slots=False)
class IllegalTransition(TaskweaveError):
    """A step was asked for that a job in this state cannot take; the job is unchanged."""

    code: ClassVar[str] = "TW1310"
    state: str
    verb: str

    def explain(self) -> str:
        return f"a job that is {self.state} cannot {self.verb}; the job is unchanged, look at its state first"
