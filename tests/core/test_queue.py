"""The queue machine, verb by verb: what the walks of property_tests do not say in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from taskweave.core import verbs
from taskweave.core.ids import HOUR, SECOND, SPAN_MAX_US
from taskweave.core.job import Failure, Job, Progress, Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.queue.exchange import PROMOTED_MAX, SKIPPED_MAX
from taskweave.core.queue.machine import VERBS
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    CancelRequested,
    Change,
    Changed,
    Count,
    DeleteJobs,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    Find,
    How,
    Lease,
    LeaseProgress,
    Load,
    Maintain,
    Maintained,
    Op,
    PauseQueue,
    Prune,
    PurgeQueue,
    Renew,
    ResumeQueue,
    RetryJobs,
    Settlement,
    SourceOp,
    TakeDump,
    UpdateJob,
)
from taskweave.exceptions import (
    DuplicateId,
    IllegalTransition,
    InvalidInput,
    InvalidName,
    InvalidValue,
    PayloadTooLarge,
    StoreFull,
    UniqueConflict,
)

NOW = 1_000 * SECOND
LEASE = 30 * SECOND


def spec(id: str, queue: str = "q", **rest: Any) -> Spec:
    return Spec(id, rest.pop("task", "t"), queue, rest.pop("payload", b"{}"), **rest)


class Bench:
    """A machine, and short words for its verbs; every op is followed by the self-check."""

    def __init__(self, *specs: Spec, **settings: Any) -> None:
        self.queue = Queue(**settings)
        self.now = NOW
        self.claims = 0
        if specs:
            self.enqueue(*specs)

    def apply(self, op: Op[Any]) -> Any:
        answer = self.queue.apply(op, self.now)
        self.queue.check()
        return answer

    def enqueue(self, *specs: Spec) -> tuple[Enqueued, ...]:
        return self.apply(Enqueue(specs))

    def claim(self, want: int = 9, **rest: Any) -> Exchanged:
        self.claims += 1
        given = {"queues": ("q",), "tasks": ("t",), "member": "m", "claim_id": f"c{self.claims}", **rest}
        return self.apply(Exchange(want=want, lease_us=LEASE, **given))

    def ids(self, want: int = 9, **rest: Any) -> list[str]:
        return [job.id for job in self.claim(want, **rest).claimed]

    def settle(self, *settlements: Settlement, **rest: Any) -> Exchanged:
        return self.claim(0, settle=settlements, **rest)

    def job(self, id: str) -> Job:
        (job,) = self.apply(Load((id,)))
        assert job is not None
        return job

    def state(self, id: str) -> State:
        return self.job(id).state


def test_every_verb_of_the_seam_has_a_meaning() -> None:
    every = {kind for kind in vars(verbs).values() if isinstance(kind, type) and issubclass(kind, Op)} - {Op, SourceOp}
    assert set(VERBS) == every
    assert len({kind.name for kind in every}) == len(every)


def test_the_clock_of_the_store_never_runs_below_its_floor() -> None:
    bench = Bench()
    assert bench.apply(Maintain(LEASE)).now == NOW
    bench.now = 5
    assert bench.claim().now == NOW
    assert bench.apply(Count()).now == NOW
    assert bench.apply(TakeDump()).floor == NOW


# --- enqueue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (spec(""), InvalidName),
        (spec("x" * 201), InvalidName),
        (spec("a"), DuplicateId),
        (spec("b", "q\n"), InvalidName),
        (spec("b", task=""), InvalidName),
        (spec("b", payload=b"12345"), PayloadTooLarge),
        (spec("b", priority=1 << 15), InvalidValue),
        (spec("b", delay_us=-1), InvalidValue),
        (spec("b", at=5, delay_us=5), InvalidValue),
        (spec("b", result_ttl_us=-1), InvalidValue),
        (spec("b", retention_us=SPAN_MAX_US + 1), InvalidValue),
        (spec("b", unique=UniqueKey("")), InvalidValue),
        (spec("b", unique=UniqueKey("x" * 501)), InvalidValue),
    ],
)
def test_one_bad_job_and_nothing_of_the_batch_is_stored(bad: Spec, error: type[InvalidInput]) -> None:
    bench = Bench(payload_bytes_max=4)
    with pytest.raises(error):
        bench.enqueue(spec("a"), bad)
    assert len(bench.queue) == 0


def test_an_empty_batch_and_a_resent_one() -> None:
    bench = Bench()
    assert bench.enqueue() == ()
    assert bench.enqueue(spec("a"), spec("b")) == (Enqueued("a"), Enqueued("b"))
    (first, second) = bench.enqueue(spec("b", payload=b"other"), spec("c"))
    assert (first, second) == (Enqueued("b", How.EXISTING), Enqueued("c"))
    assert first.deduplicated
    assert bench.job("b").spec.payload == b"{}"


def test_a_conflict_stops_the_whole_batch_and_names_the_holder() -> None:
    bench = Bench(spec("a", unique=UniqueKey("k")))
    with pytest.raises(UniqueConflict, match="held by job a"):
        bench.enqueue(spec("b"), spec("c", unique=UniqueKey("k", on_conflict="raise")))
    assert len(bench.queue) == 1
    with pytest.raises(UniqueConflict, match="held by job d"):
        bench.enqueue(spec("d", unique=UniqueKey("l")), spec("e", unique=UniqueKey("l", on_conflict="raise")))


def test_the_second_of_two_equal_keys_in_a_batch_is_there_already() -> None:
    bench = Bench()
    answer = bench.enqueue(*(spec(id, unique=UniqueKey("k", on_conflict="replace")) for id in "abc"))
    assert [(one.id, one.how) for one in answer] == [("a", How.CREATED), ("a", How.EXISTING), ("a", How.EXISTING)]
    answer = bench.enqueue(*(spec(id, unique=UniqueKey("k", on_conflict="replace")) for id in "de"))
    assert [(one.id, one.how) for one in answer] == [("a", How.REPLACED), ("a", How.EXISTING)]


def test_a_replacement_may_move_to_another_queue() -> None:
    bench = Bench(spec("a", unique=UniqueKey("k"), expires_in_us=5))
    bench.enqueue(spec("b", "r", payload=b"2", delay_us=9, unique=UniqueKey("k", on_conflict="replace")))
    job = bench.job("a")
    assert (job.spec.queue, job.spec.payload, job.state, job.expires_at) == ("r", b"2", State.SCHEDULED, None)
    assert [one.queue for one in bench.apply(Count()).queues] == ["r"]


def test_a_lapsed_window_is_taken_over_and_its_row_waits_for_it() -> None:
    window = UniqueKey("k", None, HOUR)
    bench = Bench(spec("a", unique=window, retention_us=1, result_ttl_us=1))
    bench.claim()
    bench.settle(Settlement("a", 1, Verb.SUCCEED, b"1"))
    bench.now += HOUR - 1
    assert bench.apply(Maintain(LEASE)).pruned == 0
    assert bench.apply(Prune(0)) == 0
    assert bench.enqueue(spec("b", unique=window)) == (Enqueued("a", How.EXISTING),)
    bench.now += 1
    assert bench.enqueue(spec("b", unique=window)) == (Enqueued("b"),)
    assert bench.apply(TakeDump()).keys == (("k", "b"),)
    assert bench.apply(Maintain(LEASE)).pruned == 1
    assert bench.apply(TakeDump()).keys == (("k", "b"),)


def test_a_full_store_makes_room_from_what_has_ended_and_refuses_otherwise() -> None:
    bench = Bench(*(spec(id, max_attempts=1) for id in "abc"), jobs_max=4)
    bench.claim()
    bench.settle(Settlement("a", 1, Verb.SUCCEED, b"1"), Settlement("b", 1, Verb.FAIL))
    bench.enqueue(spec("d", unique=UniqueKey("k", None, HOUR)), spec("e"))
    assert bench.apply(Load(("a",))) == (None,)
    assert bench.state("b") is State.FAILED
    before = bench.apply(TakeDump())
    bench.apply(CancelJobs(("d",)))
    with pytest.raises(StoreFull, match="4 jobs") as caught:
        bench.enqueue(spec("f"))
    assert caught.value.applied == "no"
    assert len(bench.apply(TakeDump()).jobs) == len(before.jobs), "a dead letter and a window are not evicted"
    assert bench.enqueue(spec("e")) == (Enqueued("e", How.EXISTING),)


# --- exchange -----------------------------------------------------------------------------------------------------


@pytest.mark.proves(5)
def test_queues_in_the_order_given_and_inside_by_priority_time_and_seq() -> None:
    bench = Bench(
        spec("low", priority=-1),
        spec("first"),
        spec("other", "r", priority=99),
        spec("second"),
        spec("high", priority=1),
        spec("early", at=5),
        spec("unknown", task="u"),
    )
    assert bench.ids(4) == ["high", "early", "first", "second"]
    assert bench.ids(queues=("r", "q", "r", "none")) == ["other", "low"]
    assert bench.ids(tasks=("t", "u", "v")) == ["unknown"]


@pytest.mark.proves(5)
def test_with_aging_a_low_priority_waits_for_a_bounded_time() -> None:
    bench = Bench(spec("low", priority=0), aging_us=SECOND)
    bench.now += 5 * SECOND
    bench.enqueue(spec("high", priority=5), spec("higher", priority=6))
    assert bench.ids() == ["higher", "low", "high"]


def test_later_steps_of_an_exchange_see_the_earlier_ones() -> None:
    bench = Bench(spec("a", max_attempts=2), spec("late", delay_us=5))
    bench.claim()
    bench.now += 5
    answer = bench.claim(settle=(Settlement("a", 1, Verb.RETRY),))
    assert [(job.id, job.fence, job.attempt) for job in answer.claimed] == [("a", 3, 2), ("late", 1, 1)]


def test_a_refused_settlement_stops_nothing() -> None:
    bench = Bench(spec("a"), spec("b"), spec("c"))
    bench.claim(2)
    answer = bench.claim(
        settle=(
            Settlement("gone", 1, Verb.SUCCEED),
            Settlement("a", 7, Verb.SUCCEED),
            Settlement("b", 1, Verb.SUCCEED),
            Settlement("b", 1, Verb.FAIL),
        )
    )
    assert answer.refused == (Lease("gone", 1), Lease("a", 7), Lease("b", 1))
    assert [job.id for job in answer.claimed] == ["c"]
    assert (bench.state("a"), bench.state("b")) == (State.RUNNING, State.SUCCEEDED)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (Settlement("a", 1, Verb.LOSE), IllegalTransition),
        (Settlement("a", 1, Verb.RETRY, delay_us=-1), InvalidValue),
        (Settlement("a", 1, Verb.RETRY, delay_us=SPAN_MAX_US + 1), InvalidValue),
        (Settlement("a", 1, Verb.SUCCEED, spawn=(spec("x"), spec("y"))), StoreFull),
    ],
)
def test_what_fails_an_exchange_fails_all_of_it(wrong: Settlement, error: type[Exception]) -> None:
    bench = Bench(spec("a"), spec("b"), jobs_max=3)
    bench.claim()
    before = bench.apply(TakeDump())
    with pytest.raises(error):
        bench.settle(Settlement("b", 1, Verb.SUCCEED), wrong)
    assert bench.apply(TakeDump()) == before


def test_a_resent_spawn_needs_no_room() -> None:
    bench = Bench(spec("a"), jobs_max=2)
    bench.claim()
    end = Settlement("a", 1, Verb.SUCCEED, spawn=(spec("x"),))
    assert bench.settle(end).refused == ()
    assert bench.settle(end).refused == ()
    assert bench.settle(Settlement("gone", 1, Verb.SUCCEED, spawn=(spec("y"),))).refused == (Lease("gone", 1),)


def test_spawned_jobs_commit_with_their_outcome_or_not_at_all() -> None:
    bench = Bench(spec("a", unique=UniqueKey("k")), spec("b"), spec("holder", "r", unique=UniqueKey("l")))
    bench.claim()
    after_me = spec("next", unique=UniqueKey("k", on_conflict="raise"))
    taken = spec("no", unique=UniqueKey("l", on_conflict="raise"))
    answer = bench.settle(
        Settlement("a", 1, Verb.SUCCEED, spawn=(after_me, taken, spec("b"), spec("twin", unique=UniqueKey("k")))),
        Settlement("b", 1, Verb.SUCCEED, spawn=(spec("fine"), spec("bad", ""))),
    )
    assert answer.refused == (Lease("b", 1),)
    assert (bench.state("a"), bench.state("b"), bench.state("next")) == (State.SUCCEEDED, State.RUNNING, State.READY)
    assert bench.apply(Load(("no", "fine", "twin"))) == (None, None, None)


def test_a_repeated_claim_hands_out_the_same_and_claims_anew_when_nothing_runs_under_it() -> None:
    bench = Bench(spec("a"), spec("b"), spec("c"))
    first = bench.claim(2, claim_id="same")
    bench.now += 9
    bench.apply(Renew("m", (Lease("a", 1),), LEASE))
    assert bench.claim(2, claim_id="same").claimed == first.claimed
    ended = tuple(Settlement(job.id, job.fence, Verb.SUCCEED) for job in first.claimed)
    assert bench.ids(2, claim_id="same", settle=ended) == ["c"]


def test_next_due_only_when_fewer_were_claimed_than_wanted() -> None:
    bench = Bench(spec("a"), spec("late", delay_us=7), spec("later", "r", delay_us=3))
    assert bench.claim(1).next_due is None
    assert bench.claim(1).next_due == NOW + 7
    assert bench.claim(1, queues=("q", "r", "none")).next_due == NOW + 3
    bench.apply(PauseQueue("r"))
    assert bench.claim(1, queues=("q", "r")).next_due == NOW + 7
    assert bench.claim(1, queues=("none",)).next_due is None


def test_an_exchange_promotes_at_most_a_thousand_in_order_across_its_queues() -> None:
    late = [spec(f"{queue}{number}", queue, delay_us=1 + number) for number in range(600) for queue in "qr"]
    bench = Bench(*late, spec("other", "s", delay_us=1))
    bench.now += HOUR
    answer = bench.claim(0, queues=("q", "r"))
    assert answer.next_due is None
    counts = {one.queue: dict(one.counts) for one in bench.apply(Count()).queues}
    assert counts["q"] == {State.SCHEDULED: 600 - PROMOTED_MAX // 2, State.READY: PROMOTED_MAX // 2}
    assert counts["q"] == counts["r"]
    assert counts["s"] == {State.SCHEDULED: 1}
    assert bench.apply(Maintain(LEASE)).promoted == 201


def test_what_has_expired_is_skipped_once_and_bounded() -> None:
    dead = [spec(f"d{number}", expires_in_us=5) for number in range(SKIPPED_MAX + 5)]
    bench = Bench(*dead, spec("alive"))
    bench.now += 5
    first = bench.claim(1)
    assert (first.claimed, first.next_due) == ((), bench.now)
    assert bench.ids(1) == ["alive"]
    assert bench.apply(Count()).queues[0].count(State.READY) == SKIPPED_MAX + 5
    bench.now -= 1
    assert bench.ids(2) == ["d0", "d1"], "the clock went back, and the deadline has not passed"
    bench.now += 1
    bench.apply(CancelJobs(("d2",)))
    assert bench.apply(Count()).queues[0].oldest_ready_us == 5
    assert bench.apply(PurgeQueue("q", 1)) == 1
    assert bench.state("d4") is State.READY
    assert bench.apply(Maintain(LEASE, limit=5_000)).expired == SKIPPED_MAX + 1


def test_at_most_one_fragile_job_at_once() -> None:
    bench = Bench(*(spec(id, max_lost=2) for id in "abc"), spec("fresh", max_lost=2))
    bench.claim(3)
    bench.now += LEASE
    assert bench.apply(Maintain(LEASE)).reaped == 3
    assert bench.ids() == ["a", "fresh"]
    assert bench.ids(fragile=0) == []
    assert bench.ids(fragile=2) == ["b", "c"]


# --- running jobs -------------------------------------------------------------------------------------------------


def test_renewing_progress_and_requests_to_stop() -> None:
    bench = Bench(spec("a"), spec("b"))
    bench.claim()
    bench.now += LEASE - 1
    progress = (LeaseProgress("a", 1, Progress(1)), LeaseProgress("gone", 1, Progress(1)))
    answer = bench.apply(Renew("m", (Lease("a", 1), Lease("b", 2), Lease("gone", 1)), LEASE, progress))
    assert answer.lost == (Lease("b", 2), Lease("gone", 1))
    hold = bench.job("a").life.hold
    assert hold is not None
    assert (hold.progress, hold.lease_until) == (Progress(1), bench.now + LEASE)
    bench.apply(CancelJobs(("a", "b"), "enough"))
    asked = (CancelRequested("a", 1, "enough"), CancelRequested("b", 1, "enough"))
    assert bench.claim(progress=(LeaseProgress("a", 1, Progress(2)),)).cancels == asked
    assert bench.apply(Renew("other", (), LEASE)).cancels == ()
    bench.settle(Settlement("a", 1, Verb.SUCCEED, b"1"))
    bench.now += 1
    bench.apply(Maintain(LEASE))
    assert (bench.state("a"), bench.state("b")) == (State.SUCCEEDED, State.CANCELLED)
    assert bench.claim().cancels == ()


def test_many_renewals_leave_no_trail() -> None:
    bench = Bench(spec("a"))
    bench.claim()
    for _ in range(500):
        bench.now += 1
        bench.queue.apply(Renew("m", (Lease("a", 1),), LEASE), bench.now)
    bench.queue.check()


def test_after_a_jump_of_the_clock_owners_have_a_lease_to_renew() -> None:
    bench = Bench(spec("a"), spec("b"))
    bench.apply(Maintain(LEASE))
    bench.claim()
    bench.now += HOUR
    assert bench.apply(Maintain(LEASE)).reaped == 0
    assert bench.apply(Renew("m", (Lease("a", 1),), 2 * LEASE)).lost == ()
    bench.now += LEASE
    assert bench.apply(Maintain(LEASE)).reaped == 1
    assert (bench.state("a"), bench.state("b")) == (State.RUNNING, State.READY)


def test_the_first_maintenance_is_no_jump() -> None:
    bench = Bench(spec("a"))
    bench.claim()
    bench.now += HOUR
    assert bench.apply(Maintain(LEASE)).reaped == 1


def test_maintenance_is_bounded_and_says_that_there_is_more() -> None:
    bench = Bench(*(spec(f"j{number}", delay_us=1 + number) for number in range(5)))
    bench.now += 3
    assert bench.apply(Maintain(LEASE, limit=2)) == Maintained(bench.now, promoted=2, more=True, next_due=bench.now)
    assert bench.apply(Maintain(LEASE, limit=2)) == Maintained(bench.now, promoted=1, next_due=bench.now + 1)


def test_results_and_rows_go_when_their_time_has_come() -> None:
    bench = Bench(spec("a", result_ttl_us=5, retention_us=9))
    bench.claim()
    bench.settle(Settlement("a", 1, Verb.SUCCEED, b"1"))
    bench.now += 5
    assert bench.apply(Maintain(LEASE)).dropped == 1
    end = bench.job("a").life.end
    assert end is not None
    assert (end.result, end.result_dropped) == (None, "ttl")
    bench.now += 4
    assert bench.apply(Maintain(LEASE)).pruned == 1
    assert len(bench.queue) == 0


# --- operators ----------------------------------------------------------------------------------------------------


def test_cancel_and_delete_answer_for_every_job() -> None:
    bench = Bench(spec("run"), spec("wait", delay_us=5))
    bench.claim()
    assert bench.apply(CancelJobs(("run", "wait", "gone"))) == (
        Changed("run", Change.REQUESTED, State.RUNNING),
        Changed("wait", Change.DONE, State.CANCELLED),
        Changed("gone", Change.UNKNOWN),
    )
    assert bench.apply(CancelJobs(("wait",))) == (Changed("wait", Change.REFUSED, State.CANCELLED),)
    assert bench.apply(DeleteJobs(("run", "wait", "wait"))) == (
        Changed("run", Change.REFUSED, State.RUNNING),
        Changed("wait", Change.DONE),
        Changed("wait", Change.UNKNOWN),
    )


def test_an_operators_retry() -> None:
    bench = Bench(spec("a", unique=UniqueKey("k")), spec("b"))
    bench.claim()
    bench.settle(Settlement("a", 1, Verb.FAIL, error=Failure("E", "x")), Settlement("b", 1, Verb.SUCCEED))
    bench.enqueue(spec("c", unique=UniqueKey("k")))
    assert bench.apply(RetryJobs(("a", "b", "c", "gone"))) == (
        Changed("a", Change.KEY_TAKEN, State.FAILED, "c"),
        Changed("b", Change.REFUSED, State.SUCCEEDED),
        Changed("c", Change.REFUSED, State.READY),
        Changed("gone", Change.UNKNOWN),
    )
    bench.apply(DeleteJobs(("c",)))
    assert bench.apply(RetryJobs(("a",))) == (Changed("a", Change.DONE, State.READY),)
    assert bench.apply(TakeDump()).keys == (("k", "a"),)
    assert bench.enqueue(spec("d", unique=UniqueKey("k"))) == (Enqueued("a", How.EXISTING),)


def test_an_update_reorders_and_is_checked() -> None:
    bench = Bench(spec("a"), spec("b"), spec("run", "r"))
    bench.claim(queues=("r",))
    assert bench.apply(UpdateJob("b", 5)) == Changed("b", Change.DONE, State.READY)
    assert bench.apply(UpdateJob("a", delay_us=5)) == Changed("a", Change.DONE, State.SCHEDULED)
    assert bench.apply(UpdateJob("run", 5)) == Changed("run", Change.REFUSED, State.RUNNING)
    assert bench.apply(UpdateJob("gone", 5)) == Changed("gone", Change.UNKNOWN)
    assert bench.ids() == ["b"]
    for wrong in (UpdateJob("a", 1 << 15), UpdateJob("a", delay_us=-1)):
        with pytest.raises(InvalidValue):
            bench.apply(wrong)


@pytest.mark.proves(4)
def test_a_pause_holds_claims_alone_and_works_for_empty_queues() -> None:
    bench = Bench(spec("a", delay_us=5))
    assert bench.apply(PauseQueue("q"))
    assert not bench.apply(PauseQueue("q"))
    assert bench.apply(PauseQueue("empty"))
    bench.now += 5
    assert bench.ids() == []
    assert bench.state("a") is State.READY
    stats = bench.apply(Count())
    assert [(one.queue, one.paused, one.counts, one.oldest_ready_us) for one in stats.queues] == [
        ("empty", True, (), None),
        ("q", True, ((State.READY, 1),), 0),
    ]
    assert bench.apply(TakeDump()).paused == ("empty", "q")
    assert bench.apply(ResumeQueue("q"))
    assert not bench.apply(ResumeQueue("q"))
    assert bench.ids() == ["a"]
    with pytest.raises(InvalidName):
        bench.apply(PauseQueue("a\n"))


def test_a_purge_takes_the_earliest_due_and_nothing_that_runs() -> None:
    bench = Bench(spec("run"), spec("b", delay_us=9), spec("c", priority=3), spec("d", delay_us=1, task="u"))
    bench.claim(1, tasks=("t",))
    bench.apply(RetryJobs(()))
    assert bench.apply(PurgeQueue("q", 2)) == 2
    assert {job.id for job in bench.apply(TakeDump()).jobs} == {"c", "b"}
    assert bench.apply(PurgeQueue("q")) == 1
    assert bench.apply(PurgeQueue("q")) == 0
    assert bench.apply(PurgeQueue("none")) == 0


def test_a_prune_takes_the_earliest_finished_of_the_states_named() -> None:
    bench = Bench(*(spec(id) for id in "abcd"))
    for verb, id in ((Verb.SUCCEED, "a"), (Verb.FAIL, "b"), (Verb.CANCEL, "c"), (Verb.SUCCEED, "d")):
        bench.claim(1)
        bench.settle(Settlement(id, 1, verb))
        bench.now += 10
    assert bench.apply(Prune(20, limit=1)) == 1
    assert bench.apply(Prune(20)) == 1
    assert bench.apply(Prune(20, (State.READY, State.FAILED))) == 1
    assert [job.id for job in bench.apply(TakeDump()).jobs] == ["d"]


# --- reads --------------------------------------------------------------------------------------------------------


def test_pages_are_stable_while_jobs_come_and_go() -> None:
    bench = Bench(*(spec(f"j{number}") for number in range(6)))
    first = bench.apply(Find(limit=2))
    assert ([job.id for job in first.jobs], first.next) == (["j5", "j4"], 5)
    bench.apply(DeleteJobs(("j4", "j2")))
    bench.enqueue(spec("new"))
    second = bench.apply(Find(limit=2, after=first.next))
    assert ([job.id for job in second.jobs], second.next) == (["j3", "j1"], 2)
    assert bench.apply(Find(limit=2, after=second.next)).next is None
    assert len(bench.apply(Find(limit=0)).jobs) == 1


@pytest.mark.proves(33)
def test_find_by_state_task_queue_and_tags() -> None:
    bench = Bench(
        spec("a", tags=(("x", "1"), ("y", "2"))), spec("b", "r", task="u"), *(spec(f"o{n}", "z") for n in range(20))
    )
    bench.claim(1)

    def found(**by: Any) -> list[str]:
        return [job.id for job in bench.apply(Find(**by)).jobs]

    assert found(tags=(("y", "2"),)) == ["a"]
    assert found(tags=(("y", "3"),)) == []
    assert found(queue="r") == found(task="u") == ["b"]
    assert found(states=(State.RUNNING,)) == ["a"]
    assert found(states=(State.RUNNING, State.LOST, State.RUNNING)) == ["a"]
    assert found(states=(State.RUNNING, State.READY), queue="q") == ["a"]


def test_a_dump_leaves_out_who_holds_a_job() -> None:
    bench = Bench(spec("a"))
    bench.claim(member="someone")
    (job,) = bench.apply(TakeDump()).jobs
    assert job.life.hold is not None
    assert job.life.hold.member == ""
    assert bench.job("a") == evolve(job, life=evolve(job.life, hold=evolve(job.life.hold, member="someone")))


def test_the_self_check_finds_a_lie() -> None:
    bench = Bench(spec("a"))
    bench.queue._table.rows[1].place = None
    with pytest.raises(AssertionError, match="set aside"):
        bench.queue.check()
