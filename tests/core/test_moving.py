"""What a job is after a move, and what is refused before anything is stored."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from taskweave.core.ids import SECOND
from taskweave.core.job import Attempt, End, Failure, Hold, Job, Life, Settled, Spec, State, Verb
from taskweave.core.moving import MOVED, PAGE_BYTES_MAX, PAGE_MAX, check_jobs, page, parked, size
from taskweave.core.queue import Queue
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    Change,
    Changed,
    Count,
    Enqueue,
    Exchange,
    Export,
    Find,
    Lease,
    Load,
    Op,
    PauseQueue,
    Restore,
    Settlement,
)
from taskweave.exceptions import DuplicateId, InvalidInput, InvalidValue, PayloadTooLarge, StoreFull

NOW = 1_000 * SECOND
LEASE = 30 * SECOND


def spec(id: str, **rest: Any) -> Spec:
    return Spec(id, "t", rest.pop("queue", "q"), rest.pop("payload", b"{}"), **rest)


def running(cancel: str | None = None, **rest: Any) -> Job:
    """As a claim at NOW leaves it, on its second start."""
    rest = {"max_attempts": 3} | rest
    entry = Attempt(Verb.RETRY, 1, 1, "m", NOW - 9, NOW - 5, Failure("E", "bad"), "why")
    hold = Hold("m", "c", NOW + LEASE, NOW, None, cancel)
    life = Life(State.RUNNING, NOW - 5, 2, 3, 1, 0, hold, Settled(1, 5), (entry,))
    return Job(spec("a", **rest), 7, NOW - 20, NOW - 20, None, life)


def test_a_job_that_does_not_run_stays_as_it_is() -> None:
    job = Queue()
    job.apply(Enqueue((spec("a"),)), NOW)
    (there,) = job.apply(Export(), NOW).jobs
    assert parked(there) is there


def test_a_running_job_is_given_back_with_its_attempt_and_a_new_fence() -> None:
    job = running()
    life = parked(job).life
    assert (life.state, life.attempt, life.fence, life.lost_count) == (State.READY, 1, 4, 1)
    assert life.hold is None
    assert life.run_at == job.life.run_at
    last = life.history[-1]
    assert (last.verb, last.reason, last.ended_at) == (Verb.RELEASE, MOVED, NOW + LEASE)
    assert parked(job) == parked(job)
    assert parked(parked(job)) == parked(job)


def test_a_move_ends_what_was_asked_to_stop_and_what_may_start_once() -> None:
    cancelled = parked(running(cancel="enough")).life
    assert (cancelled.state, cancelled.end and cancelled.end.reason) == (State.CANCELLED, "enough")
    once = running(at_most_once=True, max_attempts=1)
    lost = parked(evolve(once, life=evolve(once.life, attempt=1))).life
    assert (lost.state, lost.end and lost.end.reason) == (State.LOST, MOVED)


def test_its_old_worker_is_refused() -> None:
    queue = Queue()
    queue.apply(Restore((running(),)), NOW)
    answer = queue.apply(Exchange("m", "c", 0, (), (), LEASE, (Settlement("a", 3, Verb.SUCCEED, b"1"),)), NOW)
    assert answer.refused == (Lease("a", 3),)
    (claimed,) = queue.apply(Exchange("n", "d", 1, ("q",), ("t",), LEASE), NOW).claimed
    assert (claimed.fence, claimed.attempt) == (5, 2)


def test_a_page_is_bounded_in_jobs_and_in_bytes() -> None:
    assert page([]) == 0
    assert page([PAGE_BYTES_MAX * 2, 1]) == 1
    assert page([1, PAGE_BYTES_MAX - 1, 1]) == 2
    assert page([1, PAGE_BYTES_MAX - 2, 1, 1]) == 3
    assert page([0] * 2 * PAGE_MAX) == PAGE_MAX
    ended = Life(State.SUCCEEDED, 0, end=End(0, result=b"four"))
    assert size(Job(spec("a"), 1, 0, 0, None, ended)) == 6


def test_large_jobs_make_short_pages() -> None:
    queue = Queue(payload_bytes_max=PAGE_BYTES_MAX)
    queue.apply(Enqueue(tuple([spec(id, payload=bytes(PAGE_BYTES_MAX // 2)) for id in "abc"])), NOW)
    first = queue.apply(Export(), NOW)
    assert ([job.id for job in first.jobs], first.next) == (["a", "b"], 2)
    last = queue.apply(Export(2), NOW)
    assert ([job.id for job in last.jobs], last.next) == (["c"], None)


def test_settings_travel_with_every_page() -> None:
    queue = Queue(aging_us=5)
    for name in "zb":
        queue.apply(PauseQueue(name), NOW)
    answer = queue.apply(Export(), NOW)
    assert (answer.now, answer.jobs, answer.next, answer.paused, answer.aging_us) == (NOW, (), None, ("b", "z"), 5)


def test_what_is_there_is_left_alone() -> None:
    queue = Queue()
    queue.apply(Enqueue((spec("a", payload=b"1"),)), NOW)
    other = running()
    assert queue.apply(Restore((other,)), NOW) == (Changed("a", Change.EXISTING, State.READY),)
    (job,) = queue.apply(Load(("a",)), NOW)
    assert job is not None
    assert job.spec.payload == b"1"


def test_a_taken_key_is_answered_with_its_holder() -> None:
    source, target = Queue(), Queue()
    source.apply(Enqueue((spec("a", unique=UniqueKey("k")), spec("b"))), NOW)
    target.apply(Enqueue((spec("h", unique=UniqueKey("k")),)), NOW)
    jobs = source.apply(Export(), NOW).jobs
    answers = target.apply(Restore(jobs), NOW)
    assert answers == (Changed("a", Change.KEY_TAKEN, None, "h"), Changed("b", Change.DONE, State.READY))
    twin = evolve(jobs[0], spec=evolve(jobs[0].spec, id="c"))
    empty = Queue()
    assert empty.apply(Restore((jobs[0], twin)), NOW)[1] == Changed("c", Change.KEY_TAKEN, None, "a")


def test_a_lapsed_window_is_restored_and_takes_nothing() -> None:
    source, target = Queue(), Queue()
    source.apply(Enqueue((spec("a", unique=UniqueKey("k", None, SECOND)),)), NOW)
    target.apply(Enqueue((spec("h", unique=UniqueKey("k")),)), NOW)
    jobs = source.apply(Export(), NOW).jobs
    assert target.apply(Restore(jobs), NOW)[0].change is Change.KEY_TAKEN
    assert target.apply(Restore(jobs), NOW + SECOND)[0].change is Change.DONE


def test_a_bounded_store_makes_room_or_refuses_the_whole_batch() -> None:
    source, target = Queue(), Queue(jobs_max=2)
    source.apply(Enqueue((spec("a"), spec("b"), spec("c"))), NOW)
    with pytest.raises(StoreFull):
        target.apply(Restore(source.apply(Export(), NOW).jobs), NOW)
    assert target.apply(Find(), NOW).jobs == ()
    assert target.apply(Count(), NOW).queues == ()


def changed(**life: Any) -> Job:
    job = running()
    return evolve(job, life=evolve(job.life, **life))


def held(**hold: Any) -> Job:
    was = running().life.hold
    assert was is not None
    return changed(hold=evolve(was, **hold))


def ended(**end: Any) -> Job:
    return changed(state=State.SUCCEEDED, hold=None, end=End(**{"finished_at": NOW} | end))


ENTRY = running().life.history[0]
NUMBER_FOR_NAME: dict[str, Any] = {"member": 3}  # as from a file, past the types
NO_INSTANT: dict[str, Any] = {"created_at": None}
WRONG: dict[str, Job] = {
    "fence of job": changed(fence=-1),
    "attempt of job": changed(attempt=4),
    "lost_count": changed(lost_count=4),
    "unfit_count": changed(unfit_count=True),
    "settled fence": changed(settled=Settled(9, 5)),
    "settled digest": changed(settled=Settled(1, 1 << 63)),
    "run_at": changed(run_at=1.5),
    "lease of job": changed(hold=None),
    "end of job": changed(end=End(NOW)),
    "state of job": changed(state=State.LOST, hold=None, end=End(NOW)),
    "history": changed(history=(ENTRY,) * 11),
    "ended of job": changed(history=(evolve(ENTRY, ended_at=-1),)),
    "member": changed(history=(evolve(ENTRY, **NUMBER_FOR_NAME),)),
    "kind 0": changed(history=(evolve(ENTRY, error=Failure("E", "m", "", (1,))),)),  # type: ignore[arg-type]  # as from a file
    "lease_until": held(lease_until="soon"),
    "claim": held(claim_id=1),
    "at least 1": changed(attempt=0),
    "finished": ended(finished_at=1 << 60),
    "result": ended(result="text"),
    "reason": ended(reason=1),
    "created": evolve(running(), **NO_INSTANT),
    "expires": evolve(running(), expires_at=-1),
}


@pytest.mark.parametrize("field", WRONG)
def test_what_no_store_could_have_written_is_refused(field: str) -> None:
    queue = Queue()
    good = evolve(running(), spec=spec("good", max_attempts=3))
    with pytest.raises(InvalidValue, match=field):
        queue.apply(Restore((good, WRONG[field])), NOW)
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("jobs", "error"),
    [
        ((running(), running()), DuplicateId),
        ((running(),) * (PAGE_MAX + 1), InvalidValue),
        ((running(payload=bytes(11)),), PayloadTooLarge),
        ((running(priority=1 << 20),), InvalidInput),
    ],
)
def test_a_batch_is_within_the_bounds_of_the_store(jobs: tuple[Job, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        check_jobs(jobs, 10)


def test_restoring_twice_changes_nothing() -> None:
    queue = Queue()
    op: Op[Any] = Restore((running(),))
    queue.apply(op, NOW)
    before = queue.apply(Export(), NOW)
    assert queue.apply(op, NOW) == (Changed("a", Change.EXISTING, State.READY),)
    assert queue.apply(Export(), NOW) == before
