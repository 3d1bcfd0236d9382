"""A job's life as a table, and the values that make up one job.

A job is what was asked for (`Spec`, which never changes) and what has happened since (`Life`, replaced at every
step). NEXT is the whole of what can happen: a pair that is absent is illegal and `move` refuses it. Diagrams,
documentation and tests are derived from NEXT, never drawn by hand.

There is no edge from running to ready: whatever leaves running alive becomes scheduled, and is promoted in the same
step when its instant has come. That keeps the table a function.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import evolve, field

from taskweave.core.ids import DAY, HOUR, Fence, JobId, Micros
from taskweave.core.unique import UniqueKey
from taskweave.core.values import frozen
from taskweave.exceptions import IllegalTransition


class State(StrEnum):
    """Where a job stands; NEXT says what can follow."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the dead letter: kept with its history, an operator can retry it
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"  # at-most-once jobs only: the visible record of a crash

    __hash__ = str.__hash__  # StrEnum inherits Enum's Python-level hash, which is slow in every table look-up


class Verb(StrEnum):
    PROMOTE = "promote"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    SNOOZE = "snooze"
    RELEASE = "release"  # the worker gave it back: shutdown, or it cannot run this job
    LOSE = "lose"  # the lease ran out
    ABANDON = "abandon"  # the lease of an at-most-once job ran out
    CANCEL = "cancel"
    EXPIRE = "expire"
    REVIVE = "revive"  # an operator's retry of a finished job
    POSTPONE = "postpone"  # another due time for a job that waits, by an update or a replacement

    __hash__ = str.__hash__


TERMINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.LOST})
UNSTARTED: Final = frozenset({State.SCHEDULED, State.READY})

NEXT: Final[dict[tuple[State, Verb], State]] = {
    (State.SCHEDULED, Verb.PROMOTE): State.READY,
    (State.SCHEDULED, Verb.CANCEL): State.CANCELLED,
    (State.SCHEDULED, Verb.EXPIRE): State.EXPIRED,
    (State.SCHEDULED, Verb.POSTPONE): State.SCHEDULED,
    (State.READY, Verb.CLAIM): State.RUNNING,
    (State.READY, Verb.CANCEL): State.CANCELLED,
    (State.READY, Verb.EXPIRE): State.EXPIRED,
    (State.READY, Verb.POSTPONE): State.SCHEDULED,
    (State.RUNNING, Verb.SUCCEED): State.SUCCEEDED,
    (State.RUNNING, Verb.FAIL): State.FAILED,
    (State.RUNNING, Verb.RETRY): State.SCHEDULED,
    (State.RUNNING, Verb.SNOOZE): State.SCHEDULED,
    (State.RUNNING, Verb.RELEASE): State.SCHEDULED,
    (State.RUNNING, Verb.LOSE): State.SCHEDULED,
    (State.RUNNING, Verb.ABANDON): State.LOST,
    (State.RUNNING, Verb.CANCEL): State.CANCELLED,
    (State.FAILED, Verb.REVIVE): State.SCHEDULED,
    (State.CANCELLED, Verb.REVIVE): State.SCHEDULED,
    (State.EXPIRED, Verb.REVIVE): State.SCHEDULED,
    (State.LOST, Verb.REVIVE): State.SCHEDULED,
}


def move(state: State, verb: Verb) -> State:
    """Return the state that `verb` leads to, or refuse: the only way in which a state ever changes.

    Raises IllegalTransition for a pair that NEXT does not hold.
    """
    after = NEXT.get((state, verb))
    if after is None:
        raise IllegalTransition(state.value, verb.value)
    return after


@frozen
class Spec:
    """What a client asked for; never changes after the store has accepted it.

    `delay_us` and `expires_in_us` are spans, resolved to instants of store time at the enqueue; only `at` is an
    absolute instant (microseconds since 1970, UTC) and excludes `delay_us`. `version` is the payload's version.
    """

    id: JobId
    task: str
    queue: str
    payload: bytes
    codec: str = "json"
    version: int = 1
    priority: int = 0
    delay_us: Micros = 0
    at: Micros | None = None
    expires_in_us: Micros | None = None
    timeout_us: Micros | None = None
    max_attempts: int = 1
    max_lost: int = 3
    at_most_once: bool = False
    unique: UniqueKey | None = None
    result_ttl_us: Micros = HOUR
    retention_us: Micros = 7 * DAY
    retention_failed_us: Micros = 30 * DAY
    tags: tuple[tuple[str, str], ...] = ()
    trace: str | None = None


@frozen
class Failure:
    """An exception as text: it travels, it is shown, it is never turned back into a class.

    `kinds` are the qualified names of the exception's class and its bases, so that a rule about OSError also meets
    its children, in process mode too.
    """

    type: str
    message: str
    traceback: str = ""
    kinds: tuple[str, ...] = ()


@frozen
class Progress:
    """How far a running attempt says it is."""

    done: float
    total: float | None = None
    note: str = ""


@frozen
class Hold:
    """The right of one member to one attempt; exists exactly while the job is running."""

    member: str
    claim_id: str
    lease_until: Micros
    started_at: Micros
    progress: Progress | None = None
    cancel: str | None = None  # an operator asked for it, with this reason


@frozen
class Settled:
    """The token of the last settlement: the same pair again is a repeat, another is stale."""

    fence: Fence
    digest: int


@frozen
class Attempt:
    """How one start ended, or what an operator did (verb revive): the audit trail of a job."""

    verb: Verb
    attempt: int
    fence: Fence
    member: str
    started_at: Micros
    ended_at: Micros
    error: Failure | None = None
    reason: str | None = None


@frozen
class End:
    """Exists exactly while the job is terminal. `result_dropped` says why a succeeded job has no result."""

    finished_at: Micros
    started_at: Micros | None = None
    result: bytes | None = None
    result_dropped: str | None = None
    cause: str | None = None  # exhausted, abort, poison, unknown_task, bad_payload, timeout ...
    reason: str | None = None
    error: Failure | None = None


@frozen
class Life:
    """What has happened to a job since it was accepted; a new value at every step."""

    state: State
    run_at: Micros
    attempt: int = 0
    fence: Fence = 0
    lost_count: int = 0
    unfit_count: int = 0
    hold: Hold | None = None
    settled: Settled | None = None
    history: tuple[Attempt, ...] = ()
    end: End | None = None


@frozen
class Job:
    """One row of a store, as a value."""

    spec: Spec
    seq: int
    created_at: Micros
    due_at: Micros  # when it was first due, or revived; run_at changes by retry and snooze, this does not
    expires_at: Micros | None
    life: Life = field()

    @property
    def id(self) -> JobId:
        return self.spec.id

    @property
    def state(self) -> State:
        return self.life.state

    @property
    def finished(self) -> bool:
        return self.life.state in TERMINAL

    def with_life(self, life: Life) -> Job:
        return evolve(self, life=life)
