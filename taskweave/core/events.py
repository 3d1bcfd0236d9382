"""What can happen to a worker, in the past tense; batches are one event, so that a busy worker handles few."""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from taskweave.core.ids import Fence, JobId, Micros
from taskweave.core.job import Failure, Spec
from taskweave.core.values import frozen
from taskweave.core.verbs import CancelRequested, Exchanged, Lease, LeaseProgress


class Ending(Enum):
    """How a run of the task's function ended, as the runner saw it."""

    RETURNED = auto()
    RAISED = auto()
    RETRY_AFTER = auto()
    SNOOZED = auto()
    CANCELLED = auto()  # the task raised Cancel
    ABORTED = auto()  # the task raised Abort, or its result cannot be stored
    STOPPED = auto()  # it obeyed a CancelRun
    DIED = auto()  # the process that ran it exited
    UNFIT = auto()  # this worker cannot run it: task unknown, or payload undecodable
    COMMITTED = auto()  # its success is durable already: it was settled in the task's own transaction
    REFUSED = auto()  # its settlement was refused there, and everything rolled back: another worker owns the job


@frozen
class RunEnded:
    """`delay_us` with RETRY_AFTER and SNOOZED; `jitter` is a fresh number in [0, 1) for the retry policy.

    With STOPPED, `reason` is what the runner knows of how it was stopped.
    """

    id: JobId
    fence: Fence
    ending: Ending
    result: bytes | None = None
    result_dropped: str | None = None
    failure: Failure | None = None
    delay_us: Micros = 0
    cause: str | None = None
    reason: str | None = None
    spawn: tuple[Spec, ...] = ()
    jitter: float = 0.0


@frozen
class Ended:
    runs: tuple[RunEnded, ...]


@frozen
class Committed:
    """The success of a run that may still go on is durable: the store took it in the task's own transaction.

    Told once, before the run's end, which then is COMMITTED whatever the function does after its transaction.
    """

    run: RunEnded


@frozen
class ExchangeAnswered:
    claim_id: str
    answer: Exchanged


@frozen
class ExchangeFailed:
    """The store could not answer; whether the exchange was applied may be unknown, so it is resent as it was."""

    claim_id: str
    problem: str
    transient: bool
    jitter: float


@frozen
class LeasesLost:
    """These are not this worker's any more: a renewal was refused, or its own deadline for renewing has passed."""

    leases: tuple[Lease, ...]


@frozen
class Progressed:
    """The latest word of each of these runs; it rides on an exchange, at most once a second."""

    reports: tuple[LeaseProgress, ...]


@frozen
class CancelsRequested:
    requests: tuple[CancelRequested, ...]


@frozen
class Woken:
    """A hint: something in the store may have changed."""


@frozen
class IdleChecked:
    """Whether jobs of this worker's queues run elsewhere: an idle worker may have to take them over yet."""

    leased: bool


@frozen
class Ticked:
    """Time has passed."""


@frozen
class StopRequested:
    """Drain: claim nothing more, let runs end within `grace_us`, then give the rest back. Again: give back now."""

    grace_us: Micros


Event: TypeAlias = (
    Ended
    | Committed
    | ExchangeAnswered
    | ExchangeFailed
    | LeasesLost
    | Progressed
    | CancelsRequested
    | Woken
    | IdleChecked
    | Ticked
    | StopRequested
)
