"""The steps of one job's life: pure functions from what is, and what happened, to what is next.

Every store takes these steps and no others. The queue machine and the SQLite store call them; a store whose steps
run on a server (SQL functions, Lua) must be observationally equal to them. A step that does not apply returns None
(or the same life, where it is a repeat); nothing here raises for expected trouble.

Rules (the numbers are those of ARCHITECTURE.md, "Rules of a job's life"):
  fence     +1 at every claim and at every exit from running to a state that is not terminal
  attempt   +1 at the claim; given back when the worker, not the task, ended it
  settled   the token of the last settlement; the same token again is a repeat, another fence is stale
  run_at    changes only by retry, snooze and a delayed release
"""

from __future__ import annotations

from typing import Final

from attrs import evolve

from taskweave.core.ids import Micros
from taskweave.core.job import (
    TERMINAL,
    UNSTARTED,
    Attempt,
    End,
    Failure,
    Hold,
    Job,
    Life,
    Settled,
    Spec,
    State,
    Verb,
    move,
)
from taskweave.core.verbs import Change, Settlement

HISTORY_MAX: Final = 10
UNFIT_MAX: Final = 10  # releases because no worker could run it, before it is a dead letter

_AGAIN: Final = frozenset({Verb.RETRY, Verb.SNOOZE, Verb.RELEASE})


def born(spec: Spec, seq: int, now: Micros) -> Job:
    """The job that this spec becomes when it is accepted at `now`."""
    due = spec.at if spec.at is not None else now + spec.delay_us
    expires = None if spec.expires_in_us is None else now + spec.expires_in_us
    state = State.SCHEDULED if due > now else State.READY
    return Job(spec, seq, now, due, expires, Life(state, due))


def promote(life: Life, now: Micros) -> Life | None:
    if life.state is not State.SCHEDULED or life.run_at > now:
        return None
    return _with_state(life, move(life.state, Verb.PROMOTE))


def claim(life: Life, member: str, claim_id: str, now: Micros, lease_us: Micros) -> Life:
    """One start: a new fence, one more attempt, and a lease. Raises IllegalTransition unless ready."""
    return Life(
        move(life.state, Verb.CLAIM),
        life.run_at,
        life.attempt + 1,
        life.fence + 1,
        life.lost_count,
        life.unfit_count,
        Hold(member, claim_id, now + lease_us, now),
        life.settled,
        life.history,
    )


def renew(life: Life, fence: int, now: Micros, lease_us: Micros) -> Life | None:
    """The lease moved on, or None when it is not this fence's any more or has run out."""
    hold = life.hold
    if hold is None or life.fence != fence or now >= hold.lease_until:
        return None
    return evolve(life, hold=evolve(hold, lease_until=now + lease_us))


def settle(job: Job, settlement: Settlement, now: Micros) -> Life | None:
    """The life after this settlement; the same life for a repeat; None when it is stale and changes nothing."""
    life, hold = job.life, job.life.hold
    digest = settlement.digest()
    token = life.settled
    if token is not None and token.fence == settlement.fence and token.digest == digest:
        return life
    if hold is None or life.fence != settlement.fence:
        return None
    verb, cause, reason = _effective(job, settlement)
    delay = settlement.delay_us if verb is settlement.verb else 0
    unfit = life.unfit_count + (settlement.unfit and settlement.verb is Verb.RELEASE)
    history = life.history
    if verb is not Verb.SUCCEED:
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
        return Life(state, life.run_at, life.attempt, life.fence, life.lost_count, unfit, None, settled, history, end)
    spent = 0 if verb is Verb.RETRY else 1
    run_at = life.run_at if verb is Verb.RELEASE and not delay else now + delay
    again = Life(
        state,
        run_at,
        life.attempt - spent,
        life.fence + 1,
        life.lost_count,
        unfit,
        None,
        settled,
        history,
    )
    return promote(again, now) or again


def _effective(job: Job, settlement: Settlement) -> tuple[Verb, str | None, str | None]:
    hold = job.life.hold
    cancel = None if hold is None else hold.cancel
    return verdict(job.spec, job.life.attempt, job.life.unfit_count, cancel, settlement)


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
        return (Verb.ABANDON, "released", reason) if verb is Verb.RELEASE else (Verb.FAIL, "at_most_once", reason)
    if verb is Verb.RETRY and attempt >= spec.max_attempts:
        return Verb.FAIL, cause or "exhausted", reason
    if settlement.unfit and unfit_count + 1 >= UNFIT_MAX:
        return Verb.FAIL, cause or "unfit", reason
    return verb, cause, reason


def reap(job: Job, now: Micros) -> Life | None:
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


def cancel(life: Life, reason: str, now: Micros) -> tuple[Change, Life]:
    """Unstarted: cancelled at once. Running: a flag (the first reason stays). Finished: refused."""
    if life.state in TERMINAL:
        return Change.REFUSED, life
    if life.hold is not None:
        if life.hold.cancel is not None:
            return Change.REQUESTED, life
        return Change.REQUESTED, evolve(life, hold=evolve(life.hold, cancel=reason))
    end = End(now, cause="cancelled", reason=reason)
    return Change.DONE, evolve(life, state=move(life.state, Verb.CANCEL), end=end)


def expire(job: Job, now: Micros) -> Life | None:
    if job.life.state not in UNSTARTED or job.expires_at is None or now < job.expires_at:
        return None
    state = move(job.life.state, Verb.EXPIRE)
    return evolve(job.life, state=state, end=End(now, cause="expired", reason="it could not start before its deadline"))


def revive(job: Job, by: str, now: Micros) -> Job | None:
    """An operator's retry: fresh attempts, a new fence, no deadline any more, and an entry in the history."""
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
    return evolve(job, expires_at=None, life=promote(scheduled, now) or scheduled)


def changed(job: Job, priority: int | None, delay_us: Micros | None, now: Micros) -> Job | None:
    """The unstarted job with another priority or due time; None when it has started."""
    if job.life.state not in UNSTARTED:
        return None
    if priority is not None:
        job = evolve(job, spec=evolve(job.spec, priority=priority))
    if delay_us is not None:
        due = now + delay_us
        state = State.SCHEDULED if delay_us else State.READY
        job = evolve(job, due_at=due, life=evolve(job.life, state=state, run_at=due))
    return job


def drop_result(job: Job, now: Micros) -> Life | None:
    end = job.life.end
    if end is None or end.result is None or now < end.finished_at + job.spec.result_ttl_us:
        return None
    return evolve(job.life, end=evolve(end, result=None, result_dropped="ttl"))


def prune_at(job: Job) -> Micros | None:
    """When this finished job may be removed: after its retention, its result and its unique window; None if live."""
    end, spec = job.life.end, job.spec
    if end is None:
        return None
    keep = spec.retention_failed_us if job.life.state in (State.FAILED, State.LOST) else spec.retention_us
    at = end.finished_at + keep
    if end.result is not None:
        at = max(at, end.finished_at + spec.result_ttl_us)
    if spec.unique is not None and spec.unique.within_us is not None:
        at = max(at, job.created_at + spec.unique.within_us)
    return at


def holds_key(job: Job, now: Micros) -> bool:
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
    """Whether one more lost lease would make this job poison: a worker holds at most one such."""
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
