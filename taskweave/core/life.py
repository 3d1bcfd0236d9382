"""The steps of one job's life: pure functions from what is, and what happened, to what is next.

Every store takes these steps and no others. The queue machine and the SQLite store call them; a store whose steps
run on a server (SQL functions, Lua) must be observationally equal to them. A step that does not apply returns None
(or the same life, where it is a repeat); nothing here raises for expected trouble.

Rules
  fence     +1 at every claim and at every exit from running to a state that is not terminal
  attempt   +1 at the claim; given back when the worker, not the task, ended it
  settled   the token of the last settlement; the same token again is a repeat, another fence is stale
  run_at    changes only by retry, snooze, a delayed release, and an operator's or a replacement's new due time
  expired   a lease has run out iff now >= lease_until; only renewing needs a lease that has not

A step reads only what `JobRow` names, so that a store may keep its rows in its own shape. Lives are built by
position: they are made twice for every job that runs, and `evolve` costs as much as the rest of a step.
"""

from __future__ import annotations

from typing import Final, Protocol

from attrs import evolve

from taskweave.core.ids import SECOND, Fence, Micros
from taskweave.core.job import (
    TERMINAL,
    UNSTARTED,
    Attempt,
    End,
    Failure,
    Hold,
    Job,
    Life,
    Progress,
    Settled,
    Spec,
    State,
    Verb,
    move,
)
from taskweave.core.verbs import Change, Settlement
from taskweave.exceptions import IllegalTransition

HISTORY_MAX: Final = 10
UNFIT_MAX: Final = 10  # releases because no worker could run it, before it is a dead letter
GAP_LEASES: Final = 3  # a silence of maintenance longer than this many leases is a jump of the clock, or an outage
GAP_MIN_US: Final[Micros] = 10 * SECOND  # ordinary gaps are about a second, however short the leases are

# looking a member up in an enum costs more than the step that asks (0.1 us on Python 3.11)
_SCHEDULED: Final = State.SCHEDULED
_READY: Final = State.READY
_CLAIM: Final = Verb.CLAIM
_SUCCEED: Final = Verb.SUCCEED

_AGAIN: Final = frozenset({Verb.RETRY, Verb.SNOOZE, Verb.RELEASE})
FLOOR_STEP_US: Final[Micros] = 5 * SECOND  # less than any gap, so that a step is never taken for a jump
SETTLING: Final = _AGAIN | {Verb.SUCCEED, Verb.FAIL, Verb.CANCEL}  # the verbs that a Settlement may carry


class JobRow(Protocol):
    """What a step reads of a job."""

    @property
    def spec(self) -> Spec: ...
    @property
    def created_at(self) -> Micros: ...
    @property
    def expires_at(self) -> Micros | None: ...
    @property
    def life(self) -> Life: ...


# --- birth, promotion, claim --------------------------------------------------------------------------------------


def first(spec: Spec, now: Micros) -> tuple[Life, Micros | None]:
    """The life with which a spec starts when it is accepted at `now`, and the instant at which it expires."""
    due = spec.at if spec.at is not None else now + spec.delay_us
    expires = None if spec.expires_in_us is None else now + spec.expires_in_us
    return Life(_SCHEDULED if due > now else _READY, due), expires


def born(spec: Spec, seq: int, now: Micros) -> Job:
    """The job that this spec becomes when it is accepted at `now`."""
    life, expires = first(spec, now)
    return Job(spec, seq, now, life.run_at, expires, life)


def promote(life: Life, now: Micros) -> Life | None:
    if life.state is not _SCHEDULED or life.run_at > now:
        return None
    return _with_state(life, move(life.state, Verb.PROMOTE))


def claim(life: Life, member: str, claim_id: str, now: Micros, lease_us: Micros) -> Life:
    """One start: a new fence, one more attempt, and a lease. Raises IllegalTransition unless ready."""
    return Life(
        move(life.state, _CLAIM),
        life.run_at,
        life.attempt + 1,
        life.fence + 1,
        life.lost_count,
        life.unfit_count,
        Hold(member, claim_id, now + lease_us, now),
        life.settled,
        life.history,
    )


# --- while it runs ------------------------------------------------------------------------------------------------


def renew(life: Life, fence: Fence, now: Micros, lease_us: Micros) -> Life | None:
    """The lease moved on, or None when it is not this fence's any more or has run out."""
    hold = life.hold
    if hold is None or life.fence != fence or now >= hold.lease_until:
        return None
    return leased(life, now + lease_us)


def leased(life: Life, until: Micros) -> Life:
    """The life of a running job with another end of its lease."""
    hold = life.hold
    assert hold is not None
    return _held(life, Hold(hold.member, hold.claim_id, until, hold.started_at, hold.progress, hold.cancel))


def progressed(life: Life, fence: Fence, progress: Progress) -> Life | None:
    """The life with this progress, or None when it is not this fence's any more."""
    hold = life.hold
    if hold is None or life.fence != fence:
        return None
    return _held(life, Hold(hold.member, hold.claim_id, hold.lease_until, hold.started_at, progress, hold.cancel))


def jumped(floor: Micros, now: Micros, lease_us: Micros) -> bool:
    """Whether so much time lies between two maintenances that the leases say nothing about their owners.

    Then the clock jumped, or the store was out of reach, and live workers could not renew: every running job gets
    `lease_us` from now, so that its owner can renew before it is reaped. A floor of 0 is a store never maintained.
    """
    return floor > 0 and now - floor > max(GAP_LEASES * lease_us, GAP_MIN_US)


def floored(floor: Micros, now: Micros) -> Micros:
    """The floor of store time after a maintenance at `now`: it moves in steps, so that an idle store writes rarely."""
    return now if not floor or now - floor >= FLOOR_STEP_US else floor


def settle(job: JobRow, settlement: Settlement, now: Micros) -> Life | None:
    """The life after this settlement; the same life for a repeat; None when it is stale and changes nothing.

    Raises IllegalTransition for a verb that is no settlement.
    """
    life = job.life
    hold = life.hold
    digest = settlement.digest()
    if hold is None or life.fence != settlement.fence:
        token = life.settled
        repeat = token is not None and token.fence == settlement.fence and token.digest == digest
        return life if repeat else None
    verb, cause, reason = settlement.verb, settlement.cause, settlement.reason
    if verb not in SETTLING:
        raise IllegalTransition(life.state.value, verb.value)
    unfit, history = life.unfit_count, life.history
    if verb is not _SUCCEED:
        verb, cause, reason = verdict(job.spec, life.attempt, unfit, hold.cancel, settlement)
        unfit += settlement.unfit and settlement.verb is Verb.RELEASE
        history = _recorded(life, hold, settlement.verb, now, settlement.error, reason)
    state = move(life.state, verb)
    settled = Settled(settlement.fence, digest)
    if state in TERMINAL:
        end = End(
            now,
            hold.started_at,
            settlement.result,
            settlement.result_dropped,
            cause,
            reason,
            settlement.error,
        )
        return Life(
            state,
            life.run_at,
            life.attempt,
            life.fence,
            life.lost_count,
            unfit,
            None,
            settled,
            history,
            end,
        )
    again = Life(
        state,
        life.run_at if verb is Verb.RELEASE and not settlement.delay_us else now + settlement.delay_us,
        life.attempt if verb is Verb.RETRY else life.attempt - 1,
        life.fence + 1,
        life.lost_count,
        unfit,
        None,
        settled,
        history,
    )
    return promote(again, now) or again


def verdict(
    spec: Spec, attempt: int, unfit_count: int, cancel: str | None, settlement: Settlement
) -> tuple[Verb, str | None, str | None]:
    """The verb that really applies, with its cause and reason: bounds and a cancel request beat what was asked."""
    verb, cause, reason = settlement.verb, settlement.cause, settlement.reason
    if verb not in _AGAIN:
        return verb, cause, reason
    if cancel is not None:
        return Verb.CANCEL, "cancelled", cancel
    if spec.at_most_once:
        if verb is Verb.RELEASE and not settlement.unfit:
            return Verb.ABANDON, cause or "released", reason
        return Verb.FAIL, cause or "at_most_once", reason
    if verb is Verb.RETRY and attempt >= spec.max_attempts:
        return Verb.FAIL, cause or "exhausted", reason
    if verb is Verb.RELEASE and settlement.unfit and unfit_count + 1 >= UNFIT_MAX:
        return Verb.FAIL, cause or "unfit", reason
    return verb, cause, reason


def reap(job: JobRow, now: Micros) -> Life | None:
    """What becomes of a running job whose lease has run out; None when it has not."""
    life, hold = job.life, job.life.hold
    if hold is None or now < hold.lease_until:
        return None
    lost = life.lost_count + 1
    if hold.cancel is not None:
        verb, cause, reason = Verb.CANCEL, "cancelled", hold.cancel
    elif job.spec.at_most_once:
        verb, cause, reason = Verb.ABANDON, "lease_lost", "its worker vanished"
    elif lost >= job.spec.max_lost:
        verb, cause, reason = Verb.FAIL, "poison", f"{lost} workers vanished while running it"
    else:
        verb, cause, reason = Verb.LOSE, None, "its worker vanished"
    history = _recorded(life, hold, Verb.LOSE, now, None, reason)
    state = move(life.state, verb)
    if state in TERMINAL:
        end = End(now, hold.started_at, cause=cause, reason=reason)
        return Life(
            state, life.run_at, life.attempt, life.fence, lost, life.unfit_count, None, life.settled, history, end
        )
    again = Life(
        state, life.run_at, life.attempt - 1, life.fence + 1, lost, life.unfit_count, None, life.settled, history
    )
    return promote(again, now) or again


# --- what operators and clients change ----------------------------------------------------------------------------


def cancel(life: Life, reason: str, now: Micros) -> tuple[Change, Life]:
    """Unstarted: cancelled at once. Running: a flag (the first reason stays). Finished: refused."""
    if life.state in TERMINAL:
        return Change.REFUSED, life
    hold = life.hold
    if hold is not None:
        if hold.cancel is not None:
            return Change.REQUESTED, life
        asked = Hold(hold.member, hold.claim_id, hold.lease_until, hold.started_at, hold.progress, reason)
        return Change.REQUESTED, _held(life, asked)
    end = End(now, cause="cancelled", reason=reason)
    return Change.DONE, evolve(life, state=move(life.state, Verb.CANCEL), end=end)


def expire(job: JobRow, now: Micros) -> Life | None:
    if job.life.state not in UNSTARTED or job.expires_at is None or now < job.expires_at:
        return None
    state = move(job.life.state, Verb.EXPIRE)
    return evolve(job.life, state=state, end=End(now, cause="expired", reason="it could not start before its deadline"))


def revive(job: Job, by: str, now: Micros) -> Job | None:
    """An operator's retry: fresh attempts, a new fence, no deadline any more, and an entry in the history.

    It is due anew: what its policy allows in all (max_elapsed) counts from now, or one failure would end it again.
    """
    life = job.life
    if life.state not in TERMINAL or life.state is State.SUCCEEDED:
        return None
    entry = Attempt(Verb.REVIVE, life.attempt, life.fence, by, now, now)
    scheduled = Life(
        move(life.state, Verb.REVIVE),
        now,
        fence=life.fence + 1,
        settled=life.settled,
        history=(*life.history, entry)[-HISTORY_MAX:],
    )
    return evolve(job, due_at=now, expires_at=None, life=promote(scheduled, now) or scheduled)


def changed(job: Job, priority: int | None, delay_us: Micros | None, now: Micros) -> Job | None:
    """The unstarted job with another priority or due time; None when it runs or has finished."""
    if job.life.state not in UNSTARTED:
        return None
    if priority is not None:
        job = evolve(job, spec=evolve(job.spec, priority=priority))
    if delay_us is not None:
        job = _postponed(job, now + delay_us, now)
    return job


def replaced(job: Job, spec: Spec, now: Micros) -> Job | None:
    """The job with the content of this spec under its own id, seq and unique window; None once it was ever started.

    What was started keeps its content, also while it waits for a retry: the retry must do what the start began.
    """
    if job.life.state not in UNSTARTED or job.life.fence:
        return None
    fresh = born(evolve(spec, id=job.spec.id), job.seq, now)
    return _postponed(evolve(fresh, created_at=job.created_at, life=job.life), fresh.due_at, now)


def _postponed(job: Job, due: Micros, now: Micros) -> Job:
    waiting = evolve(job.life, state=move(job.life.state, Verb.POSTPONE), run_at=due)
    return evolve(job, due_at=due, life=promote(waiting, now) or waiting)


# --- after its end ------------------------------------------------------------------------------------------------


def drop_at(job: JobRow) -> Micros | None:
    """When the result is dropped; None where there is none."""
    end = job.life.end
    return None if end is None or end.result is None else end.finished_at + job.spec.result_ttl_us


def drop_result(job: JobRow, now: Micros) -> Life | None:
    end = job.life.end
    if end is None or end.result is None or now < end.finished_at + job.spec.result_ttl_us:
        return None
    return evolve(job.life, end=evolve(end, result=None, result_dropped="ttl"))


def prune_at(job: JobRow) -> Micros | None:
    """When this finished job may be removed: after its retention, its result and its unique window; None if live."""
    end, spec = job.life.end, job.spec
    if end is None:
        return None
    state = job.life.state
    keep = spec.retention_failed_us if state is State.FAILED or state is State.LOST else spec.retention_us
    at = end.finished_at + keep
    if end.result is not None:
        at = max(at, end.finished_at + spec.result_ttl_us)
    if spec.unique is not None and spec.unique.within_us is not None:
        at = max(at, job.created_at + spec.unique.within_us)
    return at


def holds_key(job: JobRow, now: Micros) -> bool:
    """Whether the job keeps others with its unique key out (a window may besides have been taken over)."""
    unique = job.spec.unique
    if unique is None:
        return False
    if unique.within_us is not None:
        return now < job.created_at + unique.within_us
    if unique.until == "started":
        return job.life.fence == 0 and job.life.state in UNSTARTED
    return job.life.state not in TERMINAL


def fragile(spec: Spec, lost_count: int) -> bool:
    """Whether one more lost lease would make this suspect poison: a worker holds at most one such.

    A job that never lost a worker is no suspect, even where a single loss is all that it may have.
    """
    return not spec.at_most_once and lost_count > 0 and lost_count + 1 >= spec.max_lost


def _recorded(
    life: Life, hold: Hold, verb: Verb, now: Micros, error: Failure | None, reason: str | None
) -> tuple[Attempt, ...]:
    entry = Attempt(verb, life.attempt, life.fence, hold.member, hold.started_at, now, error, reason)
    return (*life.history, entry)[-HISTORY_MAX:]


def _with_state(life: Life, state: State) -> Life:
    return Life(
        state,
        life.run_at,
        life.attempt,
        life.fence,
        life.lost_count,
        life.unfit_count,
        life.hold,
        life.settled,
        life.history,
        life.end,
    )


def _held(life: Life, hold: Hold) -> Life:
    return Life(
        life.state,
        life.run_at,
        life.attempt,
        life.fence,
        life.lost_count,
        life.unfit_count,
        hold,
        life.settled,
        life.history,
        life.end,
    )
