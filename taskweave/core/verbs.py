"""The verbs of a store and their answers, as values: the whole seam between the engine and any store.

Each Op[A] is applied atomically and answered with an A; `Queue.apply(op, now)` is what every verb means, and every
store must be observationally equal to it. Ops carry spans, never instants of a client's clock; each answer that
depends on time carries the store time at which it was given, so that a model can be replayed at the same instants.

Each op is its own token: an op that may have been applied is resent as it is, and then changes nothing
(Enqueue by job id, Exchange by claim_id, fence and digest, the rest by their own meaning).
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import ClassVar, Generic, TypeVar

from taskweave.core.ids import Fence, JobId, Micros
from taskweave.core.job import Failure, Job, Progress, Spec, State, Verb
from taskweave.core.values import frozen

A_co = TypeVar("A_co", covariant=True)


class Op(Generic[A_co]):
    """A verb of a store whose answer is an A. `name` is the verb's name in metrics and logs."""

    __slots__ = ()
    name: ClassVar[str]


class SourceOp(Op[A_co]):
    """The verbs that a worker needs; a broker implements only these."""

    __slots__ = ()


# --- enqueue ------------------------------------------------------------------------------------------------------


class How(StrEnum):
    CREATED = "created"
    EXISTING = "existing"  # the same id, or a holder of the same unique key
    REPLACED = "replaced"


@frozen
class Enqueued:
    """What became of one enqueued spec: a new job, or the one that was there."""

    id: JobId  # of the job that is there now: the holder's, where a unique key was taken
    how: How = How.CREATED

    @property
    def deduplicated(self) -> bool:
        return self.how is not How.CREATED


@frozen
class Enqueue(SourceOp[tuple[Enqueued, ...]]):
    """All or nothing; one Enqueued for each spec, in order."""

    name: ClassVar[str] = "enqueue"
    specs: tuple[Spec, ...]


# --- exchange and renew -------------------------------------------------------------------------------------------


@frozen
class Settlement:
    """How an attempt ended. `verb` is one of succeed, fail, retry, snooze, release, cancel.

    `delay_us` belongs to retry, snooze and release; `unfit` to a release because this worker cannot run the job
    (cause unknown_task or bad_payload), which is counted; `spawn` commits with the settlement or not at all.
    """

    id: JobId
    fence: Fence
    verb: Verb
    result: bytes | None = None
    delay_us: Micros = 0
    error: Failure | None = None
    cause: str | None = None
    reason: str | None = None
    result_dropped: str | None = None
    unfit: bool = False
    spawn: tuple[Spec, ...] = ()

    def digest(self) -> int:
        """Equal for equal settlements: 63 bits of BLAKE2b over what they say (they must fit a SQL integer)."""
        result = self.result
        said = self.verb.encode() if result is None else b"%b\x00%b" % (self.verb.encode(), result)
        hasher = blake2b(said, digest_size=8)
        if self.delay_us or self.error or self.cause or self.reason or self.result_dropped or self.spawn or self.unfit:
            error = self.error and (self.error.type, self.error.message)
            spawned = [spec.id for spec in self.spawn]
            rest = (self.delay_us, error, self.cause, self.reason, self.result_dropped, self.unfit, spawned)
            hasher.update(b"\x01" + repr(rest).encode("utf-8", "backslashreplace"))
        return int.from_bytes(hasher.digest(), "big") >> 1


@frozen
class Lease:
    id: JobId
    fence: Fence


@frozen
class LeaseProgress:
    id: JobId
    fence: Fence
    progress: Progress


@frozen
class CancelRequested:
    id: JobId
    fence: Fence
    reason: str


@frozen
class Claimed:
    """One attempt handed to a worker. `age_us`: since the job was first due; `wait_us`: since it could run."""

    spec: Spec
    attempt: int
    fence: Fence
    lost_count: int
    age_us: Micros
    wait_us: Micros

    @property
    def id(self) -> JobId:
        return self.spec.id


@frozen
class Exchanged:
    now: Micros
    refused: tuple[Lease, ...] = ()  # settlements that changed nothing: another owner, or another end
    claimed: tuple[Claimed, ...] = ()
    cancels: tuple[CancelRequested, ...] = ()  # of everything that this member runs
    next_due: Micros | None = None  # store time; only when fewer jobs were claimed than wanted


@frozen
class Exchange(SourceOp[Exchanged]):
    """Settle what ended, then claim what is wanted, in one atomic step (semantics: promote, settle, claim).

    Queues are taken in the order given, inside a queue by (rank, run_at, seq); only `tasks` are claimed. At most
    `fragile` of the claimed jobs are such that one more lost lease would make them poison.
    """

    name: ClassVar[str] = "exchange"
    member: str
    claim_id: str
    want: int
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    lease_us: Micros
    settle: tuple[Settlement, ...] = ()
    progress: tuple[LeaseProgress, ...] = ()
    fragile: int = 1


@frozen
class Renewed:
    now: Micros
    lost: tuple[Lease, ...] = ()
    cancels: tuple[CancelRequested, ...] = ()


@frozen
class Renew(SourceOp[Renewed]):
    """Move these leases on by `lease_us`; the answer names those that are lost, and the cancels asked for since."""

    name: ClassVar[str] = "renew"
    member: str
    leases: tuple[Lease, ...]
    lease_us: Micros
    progress: tuple[LeaseProgress, ...] = ()


# --- maintenance --------------------------------------------------------------------------------------------------


@frozen
class Maintained:
    now: Micros
    promoted: int = 0
    reaped: int = 0
    expired: int = 0
    dropped: int = 0  # results past their result_ttl
    pruned: int = 0
    reranked: int = 0  # rows whose order was rewritten after a change of the aging setting
    more: bool = False  # some batch was full: ask again at once
    next_due: Micros | None = None


@frozen
class Maintain(Op[Maintained]):
    """Promote what is due, reap expired leases, expire, drop old results, prune; each at most `limit` rows.

    Safe when two do it at once. `lease_us` is the longest lease in use: after a jump of the store's clock no lease
    is reaped before its owner had that long to renew it.
    """

    name: ClassVar[str] = "maintain"
    lease_us: Micros
    limit: int = 1_000


# --- operators ----------------------------------------------------------------------------------------------------


class Change(StrEnum):
    DONE = "done"
    REQUESTED = "requested"  # cancel of a running job: its worker is told
    REFUSED = "refused"  # the job's state does not allow it; unchanged
    UNKNOWN = "unknown"  # no such job
    KEY_TAKEN = "key_taken"  # retry, restore: another job holds the unique key
    EXISTING = "existing"  # restore: a job with this id is there; it was left as it is


@frozen
class Changed:
    id: JobId
    change: Change
    state: State | None = None  # after the verb
    holder: JobId | None = None  # with KEY_TAKEN


@frozen
class CancelJobs(Op[tuple[Changed, ...]]):
    """Unstarted jobs are cancelled at once; running ones are asked to stop (REQUESTED); finished ones REFUSED."""

    name: ClassVar[str] = "cancel"
    ids: tuple[JobId, ...]
    reason: str = "cancelled"


@frozen
class RetryJobs(Op[tuple[Changed, ...]]):
    """Finished jobs that did not succeed run again: new fence, fresh attempts, an entry in their history."""

    name: ClassVar[str] = "retry"
    ids: tuple[JobId, ...]
    by: str = "operator"


@frozen
class DeleteJobs(Op[tuple[Changed, ...]]):
    """Removes jobs that are not running."""

    name: ClassVar[str] = "delete"
    ids: tuple[JobId, ...]


@frozen
class UpdateJob(Op[Changed]):
    """Changes an unstarted job's priority or due time (a span from now); None leaves it."""

    name: ClassVar[str] = "update"
    id: JobId
    priority: int | None = None
    delay_us: Micros | None = None


@frozen
class PauseQueue(Op[bool]):
    """True if it changed anything. Only claims look at it; works for queues that hold nothing yet."""

    name: ClassVar[str] = "pause"
    queue: str


@frozen
class ResumeQueue(Op[bool]):
    """True if it changed anything: the queue's jobs may be claimed again."""

    name: ClassVar[str] = "resume"
    queue: str


@frozen
class PurgeQueue(Op[int]):
    """Deletes up to `limit` unstarted jobs of a queue and answers how many; call again until 0."""

    name: ClassVar[str] = "purge"
    queue: str
    limit: int = 10_000


@frozen
class Prune(Op[int]):
    """Deletes up to `limit` finished jobs that ended at least `older_us` ago; held unique windows are kept."""

    name: ClassVar[str] = "prune"
    older_us: Micros
    states: tuple[State, ...] = (State.SUCCEEDED, State.CANCELLED, State.EXPIRED)
    limit: int = 1_000


# --- reads --------------------------------------------------------------------------------------------------------


@frozen
class Load(Op[tuple[Job | None, ...]]):
    """The jobs with these ids, in this order; None where there is none."""

    name: ClassVar[str] = "load"
    ids: tuple[JobId, ...]


@frozen
class Found:
    jobs: tuple[Job, ...]
    next: int | None = None  # pass as `after` to go on; None at the end


@frozen
class Find(Op[Found]):
    """Jobs that match all of what is given, newest first (by seq, descending), at most `limit` (≤ 500) a page.

    Pages are stable while jobs come and go: `after` is the last seq seen.
    """

    name: ClassVar[str] = "find"
    states: tuple[State, ...] = ()
    queue: str | None = None
    task: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    after: int | None = None
    limit: int = 100


@frozen
class QueueStat:
    """One queue at one instant: its jobs by state, and how long its oldest ready one has been due."""

    queue: str
    paused: bool
    counts: tuple[tuple[State, int], ...]  # only states that have jobs, in the order of State
    oldest_ready_us: Micros | None  # how long the oldest ready job has been due

    def count(self, *states: State) -> int:
        return sum(number for state, number in self.counts if state in states)


@frozen
class Stats:
    now: Micros
    queues: tuple[QueueStat, ...]  # by name; paused queues without jobs too


@frozen
class Count(Op[Stats]):
    """How many jobs each queue holds in each state, whether it is paused, and how old its oldest ready job is."""

    name: ClassVar[str] = "count"


# --- moving -------------------------------------------------------------------------------------------------------


@frozen
class Exported:
    """One page of everything that a store keeps; `paused` and `aging_us` are those of the whole store."""

    now: Micros
    jobs: tuple[Job, ...]  # whole, by seq
    next: int | None  # pass as `after` to go on; None at the end
    paused: tuple[str, ...] = ()  # sorted
    aging_us: Micros | None = None


@frozen
class Export(Op[Exported]):
    """Whole jobs as they are, oldest first (by seq, ascending), at most `limit` (≤ 500) and 8 MiB of them a page.

    Each page is one instant; `after` is the last seq seen.
    """

    name: ClassVar[str] = "export"
    after: int = 0
    limit: int = 500


@frozen
class Restore(Op[tuple[Changed, ...]]):
    """Store these jobs as they were, all or nothing, under new seqs in this order; one Changed for each, in order.

    EXISTING where the id is there (left as it is), KEY_TAKEN where another job holds its unique key now (not stored).
    A job that was running is given back first (`core.moving.parked`), so that no old worker can settle it.
    """

    name: ClassVar[str] = "restore"
    jobs: tuple[Job, ...]


# --- for tests ----------------------------------------------------------------------------------------------------


@frozen
class Dump:
    """Everything that a store means, for comparison: left out are member names and physical ids."""

    jobs: tuple[Job, ...]  # by seq, holds with an empty member
    paused: tuple[str, ...]  # sorted
    keys: tuple[tuple[str, JobId], ...]  # unique keys held now, sorted
    floor: Micros


@frozen
class TakeDump(Op[Dump]):
    """All that the store means, as values: for tests that compare stores."""

    name: ClassVar[str] = "dump"
