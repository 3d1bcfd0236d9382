"""Judges of a history: each reads what clients saw, and says what no correct store can have answered.

A judge never accuses a store of what an unsure call may explain. It returns sentences; none is an acquittal on its
own point only. What each looks at:
  fences_grow              per job, claims have different fences, and later claims larger ones
  leases_never_overlap     per job, a claim begins when the lease before it was settled or had run out, in store time
  ends_are_accepted_once   per job and fence at most one end is accepted, and only from a fence that was handed out
  nothing_is_lost          every acknowledged job is in the last dump, unless some call may have removed it
  ids_are_made_once        of all enqueues of one id at most one is told that it made the job
  keys_have_one_holder     jobs with one unique key, each until finished, never live at the same time
  cancelled_stays_so       what was cancelled before it started is not claimed by a claim that began afterwards
  nothing_starts_early     no claim is older than the instant at which its job was due
  order_within_a_claim     no claim answers a job behind one that it precedes and that was ready before
  counts_are_conserved     the numbers at the end equal the rows, and the rows equal what was made and not removed
  results_are_those_told   a success that was accepted is in the row, with its result
  time_never_falls         store time, as answers tell it, never falls between calls of which one ended before the other
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from taskweave.core.ids import Fence, JobId, Micros
from taskweave.core.job import State, Verb
from taskweave.core.ready import rank
from taskweave.core.verbs import CancelJobs, Change, DeleteJobs, Enqueue, Exchange, How, RetryJobs, UpdateJob
from taskweave.testing.comparing import Disagreement
from taskweave.testing.evidence import (
    latest,
    maybe_removed,
    now_of,
    reborn_in,
    refused_by,
    rows,
    starts,
    tenures,
    told_made,
)
from taskweave.testing.history import NEVER, Call, History

Judge: TypeAlias = Callable[[History], list[str]]


def fences_grow(history: History) -> list[str]:
    wrong: list[str] = []
    for id, claims in starts(history.calls()).items():
        for first, second in pairwise(claims):
            if first.job.fence == second.job.fence:
                wrong.append(f"{id}: claims {first.claim_id} and {second.claim_id} share the fence {first.job.fence}")
            elif second.call.ended < first.call.began:
                wrong.append(f"{id}: fence {first.job.fence} was handed out after fence {second.job.fence}")
    return wrong


def leases_never_overlap(history: History) -> list[str]:
    calls = history.calls()
    claims = starts(calls)
    owned, by_then = tenures(calls, claims), latest(calls)
    wrong: list[str] = []
    for id, each in claims.items():
        for first, second in pairwise(each):
            tenure = owned[id, first.job.fence]
            over = tenure.until if tenure.ended is None else min(tenure.ended, tenure.until)
            if first.now <= second.now and by_then(second.call) < over and second.sure and not tenure.unsure:
                wrong.append(
                    f"{id}: fence {second.job.fence} was claimed at {second.now}, "
                    f"while fence {first.job.fence} held it until {over}"
                )
    return wrong


def ends_are_accepted_once(history: History) -> list[str]:
    calls = history.calls()
    handed = {(id, start.job.fence) for id, each in starts(calls).items() for start in each}
    unsure_claims = any(call.unsure and isinstance(call.op, Exchange) and call.op.want for call in calls)
    reborn = reborn_in(calls)
    accepted: dict[tuple[JobId, Fence], set[int]] = defaultdict(set)
    for call in calls:
        if isinstance(call.op, Exchange) and call.answer is not None:
            refused = refused_by(call)
            for end in call.op.settle:
                if (end.id, end.fence) not in refused and end.id not in reborn:
                    accepted[end.id, end.fence].add(end.digest())
    wrong: list[str] = []
    for (id, fence), ends in accepted.items():
        if len(ends) > 1:
            wrong.append(f"{id}: {len(ends)} different ends of fence {fence}")
        if (id, fence) not in handed and not unsure_claims:
            wrong.append(f"{id}: an end by fence {fence}, which nobody was given")
    return wrong


def nothing_is_lost(history: History) -> list[str]:
    calls, there = history.calls(), rows(history)
    named, unnamed = maybe_removed(calls)
    made = () if unnamed or history.dump is None else told_made(calls)
    return [f"{id} was acknowledged and is not there" for id in made if id not in there and id not in named]


def ids_are_made_once(history: History) -> list[str]:
    calls = history.calls()
    reborn = reborn_in(calls)
    return [f"{id} was made {times} times" for id, times in told_made(calls).items() if times > 1 and id not in reborn]


def keys_have_one_holder(history: History) -> list[str]:
    calls = history.calls()
    by_then = latest(calls)
    made_by = {
        one.id: call
        for call in calls
        if isinstance(call.op, Enqueue)
        for one in call.answer or ()
        if one.how is How.CREATED
    }
    lives: dict[str, list[tuple[Micros, Micros, JobId]]] = defaultdict(list)
    for job in rows(history).values():
        unique = job.spec.unique
        revived = any(entry.verb is Verb.REVIVE for entry in job.life.history)
        if unique is not None and unique.until == "finished" and not revived and job.id in made_by:
            end = NEVER if job.life.end is None else job.life.end.finished_at
            lives[unique.key].append((min(by_then(made_by[job.id]), NEVER - 1), end, job.id))
    wrong: list[str] = []
    for key, each in lives.items():
        for (_, first_end, first), (second_began, second_end, second) in pairwise(sorted(each)):
            if second_began < min(first_end, second_end):  # both certainly lived then
                wrong.append(f"key {key}: {second} was live while {first} was")
    return wrong


def cancelled_stays_so(history: History) -> list[str]:
    calls = history.calls()
    claims = starts(calls)
    wrong: list[str] = []
    for call in calls:
        for change in (call.answer or ()) if isinstance(call.op, CancelJobs) else ():
            if change.change is not Change.DONE:
                continue
            late = [start for start in claims.get(change.id, ()) if start.call.began > call.ended]
            wrong += [f"{change.id} was cancelled, and claimed afterwards as fence {start.job.fence}" for start in late]
    return wrong


def nothing_starts_early(history: History) -> list[str]:
    calls, there = history.calls(), rows(history)
    by_then = latest(calls)
    moved = {call.op.id for call in calls if isinstance(call.op, UpdateJob) and call.op.delay_us is not None}
    wrong: list[str] = []
    for id, each in starts(calls).items():
        job = there.get(id)
        if job is None or id in moved:
            continue
        due = job.spec.at if job.spec.at is not None else job.created_at + job.spec.delay_us
        if by_then(each[0].call) < due:
            wrong.append(f"{id} is due at {due}, and was claimed at {each[0].now}")
    return wrong


def order_within_a_claim(history: History) -> list[str]:
    """No job stands behind one that it precedes, if it was certainly there, ready and untouched, as the claim began.

    A repeated claim answers in any order, so only claims that were sent once are looked at.
    """
    calls, there = history.calls(), rows(history)
    sent = Counter(call.op.claim_id for call in calls if isinstance(call.op, Exchange))
    ready = _ready_since(calls)
    wrong: list[str] = []
    for call in calls:
        if not isinstance(call.op, Exchange) or call.answer is None or sent[call.op.claim_id] > 1:
            continue
        place = {queue: index for index, queue in reversed(list(enumerate(call.op.queues)))}
        largest: tuple[int, ...] = ()
        for job in call.answer.claimed:
            if job.id not in there:
                continue
            run_at = call.answer.now - job.wait_us
            order = (place[job.spec.queue], *rank(job.spec.priority, run_at, None), there[job.id].seq)
            if order < largest and job.fence == 1 and ready.get(job.id, NEVER) < call.began:
                wrong.append(
                    f"claim {call.op.claim_id} has {job.id} too late: {[each.id for each in call.answer.claimed]}"
                )
            largest = max(largest, order)
    return wrong


def _ready_since(calls: Sequence[Call]) -> dict[JobId, int]:
    """Where in the history a job was certainly ready, for those that nobody but its producer and workers touched."""
    touched: set[JobId] = set()
    since: dict[JobId, int] = {}
    for call in calls:
        if isinstance(call.op, Enqueue):
            made = {one.id for one in call.answer or () if one.how is How.CREATED}
            since |= {spec.id: call.ended for spec in call.op.specs if spec.id in made and not spec.delay_us}
        elif isinstance(call.op, CancelJobs | DeleteJobs | RetryJobs):
            touched.update(call.op.ids)
        elif isinstance(call.op, UpdateJob):
            touched.add(call.op.id)
    return {id: place for id, place in since.items() if id not in touched}


def counts_are_conserved(history: History) -> list[str]:
    if history.dump is None or history.stats is None:
        return []
    in_rows = Counter((job.spec.queue, job.state) for job in history.dump.jobs)
    counted = {(each.queue, state): number for each in history.stats.queues for state, number in each.counts}
    wrong = [] if counted == dict(in_rows) else [f"the counts are {counted}, the rows are {dict(in_rows)}"]
    asked: set[JobId] = set()
    for call in history.calls():
        if isinstance(call.op, Enqueue):
            asked.update(spec.id for spec in call.op.specs)
        elif isinstance(call.op, Exchange):
            asked.update(spec.id for end in call.op.settle for spec in end.spawn)
    return wrong + [f"{job.id} is there, and nobody asked for it" for job in history.dump.jobs if job.id not in asked]


def results_are_those_told(history: History) -> list[str]:
    calls, there = history.calls(), rows(history)
    reborn = reborn_in(calls)
    wrong: list[str] = []
    for call in calls:
        if not isinstance(call.op, Exchange) or call.answer is None:
            continue
        refused = refused_by(call)
        for end in call.op.settle:
            job = None if end.id in reborn else there.get(end.id)
            revived = job is not None and any(entry.verb is Verb.REVIVE for entry in job.life.history)
            if end.verb is Verb.SUCCEED and (end.id, end.fence) not in refused and job is not None and not revived:
                told = job.life.end
                if told is None or job.state is not State.SUCCEEDED or told.result != end.result:
                    wrong.append(f"{end.id}: a success was accepted, and the job is {job.state} with another result")
    return wrong


def time_never_falls(history: History) -> list[str]:
    told = [(call.began, call.ended, now) for call in history.calls() if (now := now_of(call)) is not None]
    wrong: list[str] = []
    ends = sorted((ended, now) for _, ended, now in told)
    place, latest = 0, 0
    for began, _, now in sorted(told):
        while place < len(ends) and ends[place][0] < began:
            latest = max(latest, ends[place][1])
            place += 1
        if now < latest:
            wrong.append(f"store time was {latest}, and later {now}")
    return wrong


JUDGES: Final[dict[str, tuple[Judge, tuple[str, ...]]]] = {
    "fences_grow": (fences_grow, ("I4",)),
    "leases_never_overlap": (leases_never_overlap, ("I3", "I4")),
    "ends_are_accepted_once": (ends_are_accepted_once, ("I4", "I8")),
    "nothing_is_lost": (nothing_is_lost, ("I1",)),
    "ids_are_made_once": (ids_are_made_once, ("I2",)),
    "keys_have_one_holder": (keys_have_one_holder, ("I13",)),
    "cancelled_stays_so": (cancelled_stays_so, ("I23",)),
    "nothing_starts_early": (nothing_starts_early, ("I14",)),
    "order_within_a_claim": (order_within_a_claim, ("I11",)),
    "counts_are_conserved": (counts_are_conserved, ("I26",)),
    "results_are_those_told": (results_are_those_told, ("I8",)),
    "time_never_falls": (time_never_falls, ("I14",)),
}


def judging(judge: Judge, history: History) -> Callable[[], Awaitable[None]]:
    """The judge as something to await, for a history that is filled in later. Raises Disagreement."""

    async def call() -> None:
        if not history.events:
            raise Disagreement("there is no history to judge")
        wrong = judge(history)
        if wrong:
            raise Disagreement("; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""))

    return call
