"""What must hold across every op of a store, read from the op, its answer, and the dumps before and after.

Nothing here models a store: each law is a sentence of the guarantees, said of two dumps. Both dumps are taken at the
instant of the op. Ops must come at instants that never fall, and no limit of a maintenance may be reached.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from taskweave.core import life
from taskweave.core.ids import Micros
from taskweave.core.job import TERMINAL, UNSTARTED, Job, State, Verb
from taskweave.core.moving import parked
from taskweave.core.ready import rank
from taskweave.core.verbs import (
    Change,
    Changed,
    DeleteJobs,
    Dump,
    Enqueue,
    Exchange,
    How,
    Maintain,
    Maintained,
    Op,
    Prune,
    PurgeQueue,
    Restore,
    RetryJobs,
    Settlement,
    UpdateJob,
)

REMOVING = (DeleteJobs, PurgeQueue, Prune, Maintain)
AGAIN = (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE)


def by_id(dump: Dump) -> dict[str, Job]:
    return {job.id: job for job in dump.jobs}


def obeys(op: Op[Any], answer: Any, before: Dump, after: Dump, now: Micros, aging_us: Micros | None = None) -> None:
    """Raises AssertionError."""
    old, new = by_id(before), by_id(after)
    keys_are_unique(after, now)
    for id, job in new.items():
        if id in old:
            went(op, old[id], job)
    for id in old.keys() - new.keys():
        assert isinstance(op, REMOVING), f"I1: {type(op).__name__} removed job {id}"
        assert old[id].state is not State.RUNNING, f"running job {id} was removed"
        assert isinstance(op, DeleteJobs) or isinstance(op, PurgeQueue) == (old[id].state in UNSTARTED)
    match op:
        case Enqueue():
            enqueued(op, answer, before, old, new, now)
        case Exchange():
            settled(op, answer, old, new)
            claimed(op, answer, before, old, new, now, aging_us)
        case Maintain():
            maintained(op, answer, before, old, new)
        case Restore():
            restored(op, answer, before, old, new)
        case _:
            pass


def keys_are_unique(dump: Dump, now: Micros) -> None:
    held = [job.spec.unique.key for job in dump.jobs if job.spec.unique is not None and life.holds_key(job, now)]
    assert len(held) == len(set(held)), f"I13: two jobs hold one key: {sorted(held)}"
    assert sorted(held) == [key for key, _ in dump.keys], "the keys differ from the rows"


def went(op: Op[Any], old: Job, new: Job) -> None:
    """What one op may do to one job."""
    was, now = old.life, new.life
    assert (new.seq, new.created_at, new.id) == (old.seq, old.created_at, old.id)
    if now == was:
        return
    assert now.fence >= was.fence, "a fence went back"
    if was.state in TERMINAL:
        dropped = now.state is was.state and now.end and now.end.result_dropped == "ttl" and not now.end.result
        assert dropped or isinstance(op, RetryJobs), f"I5: {type(op).__name__} changed a job that is {was.state}"
        assert dropped or now.fence > was.fence, "I5: an operator's retry makes a new fence"
        assert dropped or now.history[-1].verb is Verb.REVIVE, "I5: an operator's retry leaves a record"
        return
    if was.state is State.RUNNING and now.state not in TERMINAL and now.hold != was.hold:
        assert (now.hold and now.fence == was.fence) or now.fence > was.fence, (
            "a running job was left without a new fence"
        )
    if now.state is State.RUNNING and was.state is not State.RUNNING:
        assert isinstance(op, Exchange), f"{type(op).__name__} started a job"
        assert (now.fence, now.attempt) == (was.fence + 1, was.attempt + 1), "a start is one fence and one attempt"
    if not isinstance(op, UpdateJob | Enqueue) and was.state in UNSTARTED:
        assert now.run_at == was.run_at, f"{type(op).__name__} moved run_at"
    assert now.lost_count <= new.spec.max_lost, "I22: more lost than the budget"


def enqueued(op: Enqueue, answer: Any, before: Dump, old: dict[str, Job], new: dict[str, Job], now: Micros) -> None:
    assert len(answer) == len(op.specs)
    holders = dict(before.keys)
    batch: set[str] = set()
    for spec, one in zip(op.specs, answer, strict=True):
        assert one.id in new, "I1: what was accepted is there"
        if spec.id in old:
            assert (one.id, one.how) == (spec.id, How.EXISTING), "I2: the same id twice"
            assert new[spec.id].spec == old[spec.id].spec or any(each.how is How.REPLACED for each in answer)
            continue
        key = None if spec.unique is None else spec.unique.key
        if one.how is How.CREATED:
            assert one.id == spec.id
            assert key is None or (key not in holders and key not in batch), "I13: created beside a holder"
            assert (new[spec.id].spec, new[spec.id].life.fence) == (spec, 0)
        else:
            assert key is not None, "only an id or a key can be there already"
            assert one.id == holders.get(key, one.id), "the answer names the holder"
        if one.how is How.REPLACED:
            assert old[one.id].state in UNSTARTED, "replaced a job that had started"
            assert old[one.id].life.fence == 0, "replaced a job that had started"
            assert new[one.id].spec.payload == spec.payload
        if key is not None:
            batch.add(key)


def restored(op: Restore, answer: tuple[Changed, ...], before: Dump, old: dict[str, Job], new: dict[str, Job]) -> None:
    """A job is there as it was, or the one that was there is as it was; nothing else has changed."""
    assert [each.id for each in answer] == [job.id for job in op.jobs]
    assert all(new[id] == job for id, job in old.items()), "restoring touched a job that was there"
    seqs = [job.seq for job in old.values()]
    holders = dict(before.keys)
    for job, one in zip(op.jobs, answer, strict=True):
        if one.change is Change.EXISTING:
            assert job.id in old, "existing, and was not there"
        elif one.change is Change.KEY_TAKEN:
            assert job.id not in new, "stored beside the holder of its key"
            assert job.spec.unique is not None
            assert one.holder == holders.get(job.spec.unique.key, one.holder), "the answer names the holder"
        else:
            assert job.id not in old
            kept = new[job.id]
            assert evolve(kept, seq=job.seq) == parked(job), "restored otherwise than it was"
            assert kept.seq > max(seqs, default=0), "restored out of order"
            seqs.append(kept.seq)
            went_on(job, kept)
    assert new.keys() - old.keys() == {one.id for one in answer if one.change is Change.DONE}


def went_on(job: Job, kept: Job) -> None:
    """What a move does to a job that ran: no lease, no loss, its attempt given back, its worker refused."""
    was, now = job.life, kept.life
    assert now.hold is None, "a lease of another store"
    assert now.lost_count == was.lost_count, "a move was counted as a loss"
    if was.hold is None:
        return
    if now.state in TERMINAL:
        assert was.hold.cancel is not None or job.spec.at_most_once, "a move ended a job"
    else:
        assert (now.fence, now.attempt) == (was.fence + 1, was.attempt - 1), "I4: its old worker could settle it"


def settled(op: Exchange, answer: Any, old: dict[str, Job], new: dict[str, Job]) -> None:
    """I4 and I8: a settlement applies iff its fence is the running one, or it is a repeat; the first one wins."""
    refused = {(lease.id, lease.fence) for lease in answer.refused}
    seen: set[str] = set()
    for settlement in op.settle:
        if settlement.id in seen or settlement.spawn:
            continue  # the second of two is judged by the dumps of the first alone in another op
        seen.add(settlement.id)
        job = old.get(settlement.id)
        runs = job is not None and job.state is State.RUNNING and job.life.fence == settlement.fence
        token = None if job is None else job.life.settled
        repeat = token is not None and (token.fence, token.digest) == (settlement.fence, settlement.digest())
        twins = [each for each in op.settle if each.id == settlement.id]
        if len(twins) == 1:
            was_refused = (settlement.id, settlement.fence) in refused
            assert was_refused == (not runs and not repeat), f"I4: {settlement} on {job}: refused {was_refused}"
            if job is not None and not runs:
                after = new[settlement.id].life
                same = after.settled == token and after.history == job.life.history
                assert same, "I4: a stale settlement left a trace"
            if job is not None and runs:
                ended(settlement, job, new[settlement.id])


def ended(settlement: Settlement, old: Job, new: Job) -> None:
    """The state that this end leads to, and what it costs."""
    was, now = old.life, new.life
    assert was.hold is not None
    started_again = now.state is State.RUNNING
    attempt = now.attempt - started_again
    assert now.settled is not None
    assert now.settled.fence == settlement.fence
    if settlement.verb in AGAIN and was.hold.cancel is not None:
        assert now.state is State.CANCELLED, "I23: a cancelled job ran on"
    elif settlement.verb is Verb.SUCCEED:
        assert now.state is State.SUCCEEDED
        assert now.end is not None
        assert now.end.result == settlement.result
    elif settlement.verb is Verb.RETRY:
        assert (now.state is State.FAILED) == (was.attempt >= old.spec.max_attempts), "I22: the budget decides"
        assert now.state is State.FAILED or attempt == was.attempt
    elif settlement.verb in AGAIN and now.state not in TERMINAL:
        assert attempt == was.attempt - 1, "the attempt is given back"
    if now.state not in TERMINAL:
        assert now.fence == was.fence + 1 + started_again
        assert not old.spec.at_most_once, "I6: a job that may start once would start again"
        if settlement.verb is not Verb.RELEASE or settlement.delay_us:
            assert now.run_at >= was.hold.started_at + settlement.delay_us
    else:
        assert now.fence == was.fence, "a terminal settlement keeps the fence"


def claimed(
    op: Exchange, answer: Any, before: Dump, old: dict[str, Job], new: dict[str, Job], now: Micros, aging: Micros | None
) -> None:
    """I11, I14, pauses, deadlines, known tasks, and that nothing better was left lying."""
    taken = [new[each.id] for each in answer.claimed]
    holds = [job.life.hold for job in taken if job.life.hold is not None]
    assert len(holds) == len(taken), "handed out what does not run"
    known = {job.id for job in taken}
    for id, job in new.items():
        fresh = job.life.hold is not None and (id not in old or old[id].life.fence != job.life.fence)
        assert not fresh or id in known, f"{id} was started and given to nobody"
    assert all(hold.claim_id == op.claim_id for hold in holds)
    repeated = [
        job for job in taken if job.id in old and (hold := old[job.id].life.hold) and hold.claim_id == op.claim_id
    ]
    if repeated and not op.settle:
        assert repeated == taken, "a repeated claim takes nothing new"
        return
    if repeated:
        return
    assert len(taken) <= max(0, op.want)
    place = {queue: index for index, queue in reversed(list(enumerate(op.queues)))}
    for job in taken:
        hold = job.life.hold
        assert hold is not None
        assert (hold.started_at, hold.lease_until) == (now, now + op.lease_us)
        assert job.spec.queue in place, "claimed from another queue"
        assert job.spec.queue not in before.paused, "claimed from a paused queue"
        assert job.spec.task in op.tasks, "claimed an unknown task"
        assert job.life.run_at <= now, "I14: started early"
        assert job.expires_at is None or now < job.expires_at, "started after its deadline"
        assert not (job.spec.at_most_once and job.id in old and old[job.id].life.attempt), "I6: started twice"

    def order(job: Job) -> tuple[int, tuple[int, int], int]:
        return place[job.spec.queue], rank(job.spec.priority, job.life.run_at, aging), job.seq

    assert [order(job) for job in taken] == sorted(order(job) for job in taken), "I11: claimed out of order"
    fragile = [job for job in taken if life.fragile(job.spec, job.life.lost_count)]
    assert len(fragile) <= op.fragile, "I22: more than one fragile job at once"
    for job in new.values():
        could = job.state is State.READY and job.spec.queue in place and job.spec.queue not in before.paused
        could = could and job.spec.task in op.tasks and (job.expires_at is None or now < job.expires_at)
        if could and not life.fragile(job.spec, job.life.lost_count):
            assert len(taken) >= op.want, f"I3: {job.id} was left lying"
            assert not taken or order(job) > order(taken[-1]), f"I11: {job.id} was overtaken"
    if len(taken) < op.want:
        dues = [job.life.run_at for job in new.values() if job.state is State.SCHEDULED and job.spec.queue in place]
        assert answer.next_due is None or answer.next_due in dues
        assert not dues or before.paused or answer.next_due == min(dues)
    else:
        assert answer.next_due is None


def maintained(op: Maintain, answer: Maintained, before: Dump, old: dict[str, Job], new: dict[str, Job]) -> None:
    """Nothing that is due is left, and nothing that is not due was touched."""
    now = answer.now
    assert now >= before.floor, "the clock of the store ran back"
    braked = life.jumped(before.floor, now, op.lease_us)
    for job in new.values():
        hold, end = job.life.hold, job.life.end
        assert hold is None or hold.lease_until > now, f"I3: the lease of {job.id} has run out"
        assert hold is None or not braked or hold.lease_until >= now + op.lease_us, "I28: no time to renew"
        assert job.state is not State.SCHEDULED or job.life.run_at > now, f"{job.id} is due"
        assert job.state not in UNSTARTED or job.expires_at is None or now < job.expires_at, f"{job.id} has expired"
        assert end is None or end.result is None or now < end.finished_at + job.spec.result_ttl_us, "a result stayed"
        at = life.prune_at(job)
        assert at is None or now < at, f"{job.id} outlived its retention"
    reaped = [job for job in old.values() if job.life.hold is not None and job.life.hold.lease_until <= now]
    assert answer.reaped == (0 if braked else len(reaped)), "I28: reaped others than those whose lease has run out"
    for job in reaped if not braked else ():
        lost = new[job.id].life.lost_count if job.id in new else job.life.lost_count + 1
        assert lost == job.life.lost_count + 1, "I22: a lost worker was not counted"
    for id, job in old.items():
        if id not in new:
            at = life.prune_at(job)
            assert at is None or at <= now, f"I1: {id} was pruned early"
        elif job.life.hold is not None and (braked or job.life.hold.lease_until > now):
            assert new[id].state is State.RUNNING, f"{id} was reaped early"
    assert not answer.more
