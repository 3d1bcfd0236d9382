"""What follows from the calls of a history, before anybody is accused: who was handed what, and until when.

A store's time is read somewhere inside a call, so on a server whose transactions overlap, what a call did may have
happened later than the time that it tells, though never after the call was over. `latest` is that other bound: the
earliest time told by any call that began afterwards. Judges accuse only where both bounds agree.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate

from attrs import define, frozen

from taskweave.core.ids import Fence, JobId, Micros
from taskweave.core.job import Job
from taskweave.core.verbs import (
    Change,
    Claimed,
    DeleteJobs,
    Enqueue,
    Exchange,
    How,
    Maintain,
    Prune,
    PurgeQueue,
    Renew,
)
from taskweave.testing.history import NEVER, Call, History


@frozen
class Start:
    """One claim of one job, as the first that was told of it saw it; `sure` unless an earlier answer was lost."""

    job: Claimed
    call: Call
    claim_id: str
    now: Micros
    lease_us: Micros
    sure: bool


def starts(calls: Sequence[Call]) -> dict[JobId, list[Start]]:
    """Per job, its claims in the order of their fences; a claim that was repeated counts once."""
    found: dict[JobId, dict[tuple[Fence, str], Start]] = defaultdict(dict)
    lost = {call.op.claim_id for call in calls if isinstance(call.op, Exchange) and call.unsure}
    reborn = reborn_in(calls)
    for call in calls:
        if not isinstance(call.op, Exchange) or call.answer is None:
            continue
        op, now = call.op, call.answer.now
        for job in call.answer.claimed:
            known = found[job.id].get((job.fence, op.claim_id))
            if job.id not in reborn and (known is None or now < known.now):
                sure = op.claim_id not in lost
                found[job.id][job.fence, op.claim_id] = Start(job, call, op.claim_id, now, op.lease_us, sure)
    return {id: sorted(each.values(), key=lambda start: start.job.fence) for id, each in found.items() if each}


def reborn_in(calls: Sequence[Call]) -> set[JobId]:
    """Ids that were enqueued again when their job may have been removed: another job, whose fences begin anew."""
    named, unnamed = maybe_removed(calls)
    asked = Counter(spec.id for call in calls if isinstance(call.op, Enqueue) for spec in call.op.specs)
    return {id for id, times in asked.items() if times > 1 and (unnamed or id in named)}


@define
class Tenure:
    """How long one fence certainly owned its job."""

    until: Micros
    told: Micros  # store time of what `until` is from
    ended: Micros | None = None  # store time of the end that was accepted
    unsure: bool = False  # some call may have ended it at any time


def tenures(calls: Sequence[Call], claims: dict[JobId, list[Start]]) -> dict[tuple[JobId, Fence], Tenure]:
    found = {
        (id, start.job.fence): Tenure(start.now + start.lease_us, start.now, unsure=not start.sure)
        for id, each in claims.items()
        for start in each
    }
    for call in calls:
        if isinstance(call.op, Renew):
            lost: set[tuple[JobId, Fence]] = set()
            if call.answer is not None:
                lost = {(lease.id, lease.fence) for lease in call.answer.lost}
            for lease in call.op.leases:
                tenure = found.get((lease.id, lease.fence))
                if tenure is not None and (lease.id, lease.fence) not in lost:
                    _renewed(tenure, call, call.op.lease_us)
        elif isinstance(call.op, Exchange):
            refused = refused_by(call)
            for end in call.op.settle:
                tenure = found.get((end.id, end.fence))
                if tenure is not None and (end.id, end.fence) not in refused:
                    tenure.unsure |= call.unsure
                    if call.answer is not None:
                        tenure.ended = min(call.answer.now, tenure.ended or NEVER)
    return found


def _renewed(tenure: Tenure, call: Call, lease_us: Micros) -> None:
    """A renewal replaces the end of a lease, and may bring it nearer."""
    if call.answer is None:
        tenure.unsure = True
    elif call.answer.now >= tenure.told:
        tenure.until, tenure.told = call.answer.now + lease_us, call.answer.now


def refused_by(call: Call) -> set[tuple[JobId, Fence]]:
    return {(lease.id, lease.fence) for lease in call.answer.refused} if call.answer is not None else set()


def maybe_removed(calls: Sequence[Call]) -> tuple[set[JobId], bool]:
    """Jobs that some call may have removed; and whether one may have removed jobs that it did not name."""
    named: set[JobId] = set()
    unnamed = False
    for call in calls:
        match call.op:
            case DeleteJobs():
                changes = {each.id: each.change for each in call.answer or ()}
                named |= {id for id in call.op.ids if changes.get(id, Change.DONE) is Change.DONE}
            case PurgeQueue() | Prune():
                unnamed |= call.answer is None or call.answer > 0
            case Maintain():
                unnamed |= call.answer is not None and call.answer.pruned > 0
            case _:
                pass
    return named, unnamed


def told_made(calls: Sequence[Call]) -> Counter[JobId]:
    """How often an enqueue was told that it made this job."""
    made: Counter[JobId] = Counter()
    for call in calls:
        if isinstance(call.op, Enqueue):
            made.update([one.id for one in call.answer or () if one.how is How.CREATED])
    return made


def now_of(call: Call) -> Micros | None:
    now: Micros | None = getattr(call.answer, "now", None)
    return now


def rows(history: History) -> dict[JobId, Job]:
    return {} if history.dump is None else {job.id: job for job in history.dump.jobs}


def latest(calls: Sequence[Call]) -> Callable[[Call], Micros]:
    """For a call, the instant of store time by which what it did had certainly happened; NEVER where none is known."""
    told = sorted((call.began, now) for call in calls if (now := now_of(call)) is not None)
    places = [began for began, _ in told]
    least = [*accumulate((now for _, now in reversed(told)), min)][::-1]

    def of(call: Call) -> Micros:
        place = bisect_right(places, call.ended)
        return least[place] if place < len(least) else NEVER

    return of
