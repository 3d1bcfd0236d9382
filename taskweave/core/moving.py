"""What becomes of a job that is carried to another store, or kept in a file: decided here, for every store.

A job is stored as it was: what was asked for, what has happened since, its instants, its token of settlement. Only two
things cannot go with it. Its seq is the new store's. And a lease is a promise between one worker and one store, so a
running job is parked: given back as by a worker that shuts down, at the instant at which its lease would have ended.
The attempt is given back, no loss is counted, and the new fence refuses whatever its old worker still says. The
instant is taken from the job, not from a clock, so that parking the same job twice gives the same job, and two stores
can be compared. What an operator asked to stop is cancelled, and what may start at most once is lost: it did start.

What comes from a file may be anything. `check_jobs` refuses what no store could have written, before it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taskweave.core.bounds import ATTEMPTS_MAX, INSTANT_MAX, PAYLOAD_BYTES_MAX, check_batch
from taskweave.core.ids import SPAN_MAX_US
from taskweave.core.job import TERMINAL, Attempt, End, Failure, Job, Life, State, Verb
from taskweave.core.life import HISTORY_MAX, settle
from taskweave.core.verbs import Settlement
from taskweave.exceptions import InvalidValue

PAGE_MAX: Final = 500  # jobs in one export or restore
PAGE_BYTES_MAX: Final = 8 << 20  # of payloads and results in one page; the job that passes it ends the page
NUMBER_MAX: Final = (1 << 63) - 1
MOVED: Final = "moved to another store while it ran"

_INSTANT: Final = INSTANT_MAX + 2 * SPAN_MAX_US  # an instant, and a delay and a deadline after it


def parked(job: Job) -> Job:
    """The job as another store takes it: the same job, or a running one given back at the end of its lease."""
    hold = job.life.hold
    if hold is None:
        return job
    life = settle(job, Settlement(job.id, job.life.fence, Verb.RELEASE, reason=MOVED), hold.lease_until)
    assert life is not None  # its own fence is the running one
    return job.with_life(life)


def page(sizes: Iterable[int]) -> int:
    """How many jobs of these sizes (`size`), in their order, make one page: at least one, if there is any."""
    total = count = 0
    for count, bytes_ in enumerate(sizes, 1):
        total += bytes_
        if total >= PAGE_BYTES_MAX or count >= PAGE_MAX:
            break
    return count


def size(job: Job) -> int:
    """What a job counts for in a page: the bytes of its payload and of its result."""
    end = job.life.end
    return len(job.spec.payload) + (len(end.result) if end is not None and end.result is not None else 0)


def check_jobs(jobs: tuple[Job, ...], payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
    """Refuse jobs that no store could have written, too many of them, or the same id twice. Raises InvalidInput."""
    if len(jobs) > PAGE_MAX:
        raise InvalidValue("jobs", len(jobs), f"at most {PAGE_MAX} in one restore")
    check_batch(tuple([job.spec for job in jobs]), payload_bytes_max)
    for job in jobs:
        _check(job)


def _check(job: Job) -> None:
    life, spec = job.life, job.spec
    for name, at in (("created_at", job.created_at), ("due_at", job.due_at), ("run_at", life.run_at)):
        _within(job, name, at, _INSTANT)
    _instants(job, expires=job.expires_at)
    _within(job, "fence", life.fence, NUMBER_MAX)
    _within(job, "attempt", life.attempt, spec.max_attempts)
    _within(job, "lost_count", life.lost_count, spec.max_lost)
    _within(job, "unfit_count", life.unfit_count, ATTEMPTS_MAX)
    if life.settled is not None:
        _within(job, "settled fence", life.settled.fence, life.fence)
        _within(job, "settled digest", life.settled.digest, NUMBER_MAX)
    if (life.hold is not None) != (life.state is State.RUNNING):
        _refuse(job, "lease", life.hold, "one exactly while it runs")
    if (life.end is not None) != (life.state in TERMINAL):
        _refuse(job, "end", life.end, "one exactly when it has finished")
    if life.state is State.LOST and not spec.at_most_once:
        _refuse(job, "state", life.state, "another one, since only at-most-once jobs are lost")
    _check_held(job, life)
    if len(life.history) > HISTORY_MAX:
        _refuse(job, "history", len(life.history), f"at most {HISTORY_MAX} entries")
    for entry in life.history:
        _check_entry(job, entry)


def _check_held(job: Job, life: Life) -> None:
    """What belongs to a running job, and what to a finished one."""
    if life.hold is not None:
        hold = life.hold
        _within(job, "started", hold.started_at, _INSTANT)
        _within(job, "lease_until", hold.lease_until, _INSTANT)
        _texts(job, member=hold.member, claim=hold.claim_id, cancel=hold.cancel)
        if not life.attempt or not life.fence:
            _refuse(job, "attempt", life.attempt, "at least 1 while it runs")
    if life.end is not None:
        _check_end(job, life.end)


def _check_end(job: Job, end: End) -> None:
    _within(job, "finished", end.finished_at, _INSTANT)
    _instants(job, started=end.started_at)
    _texts(job, cause=end.cause, reason=end.reason, result_dropped=end.result_dropped)
    _check_failure(job, end.error)
    if end.result is not None and end.result.__class__ is not bytes:
        _refuse(job, "result", end.result, "bytes")


def _check_entry(job: Job, entry: Attempt) -> None:
    _within(job, "started", entry.started_at, _INSTANT)
    _within(job, "ended", entry.ended_at, _INSTANT)
    _within(job, "fence", entry.fence, NUMBER_MAX)
    _within(job, "attempt", entry.attempt, ATTEMPTS_MAX)
    _texts(job, member=entry.member, reason=entry.reason)
    _check_failure(job, entry.error)


def _check_failure(job: Job, failure: Failure | None) -> None:
    if failure is not None:
        _texts(job, type=failure.type, error=failure.message, traceback=failure.traceback)
        _texts(job, **{f"kind {number}": kind for number, kind in enumerate(failure.kinds)})


def _instants(job: Job, **instants: int | None) -> None:
    for name, at in instants.items():
        if at is not None:
            _within(job, name, at, _INSTANT)


def _within(job: Job, name: str, value: int, most: int) -> None:
    if value.__class__ is not int or not 0 <= value <= most:
        _refuse(job, name, value, f"an integer from 0 to {most}")


def _texts(job: Job, **texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            _refuse(job, name, text, "text")


def _refuse(job: Job, name: str, value: Any, expected: str) -> None:
    raise InvalidValue(f"{name} of job {job.id}", value, expected)
