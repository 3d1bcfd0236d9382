"""The judges of histories: hand-made bad ones are each rejected, odd but legal ones are accepted."""

from __future__ import annotations

from typing import Any

import pytest

from taskweave.core.ids import Micros
from taskweave.core.job import Attempt, End, Job, Life, Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    CancelRequested,
    Change,
    Changed,
    Claimed,
    Count,
    DeleteJobs,
    Dump,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    How,
    Lease,
    Maintain,
    Maintained,
    QueueStat,
    Renew,
    Renewed,
    Settlement,
    Stats,
)
from taskweave.testing.history import Answered, Event, Failed, History, Invoked, Unsure
from taskweave.testing.judging import JUDGES

LEASE = 1_000


class Story:
    """A history written by hand: each line is a call that began and ended, unless it says otherwise."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.calls = 0
        self.jobs: list[Job] = []
        self.stats: Stats | None = None

    def begins(self, op: Any, client: int = 1) -> int:
        self.calls += 1
        self.events.append(Invoked(client, self.calls, op))
        return self.calls

    def ends(self, call: int, answer: Any) -> None:
        self.events.append(Answered(call, answer))

    def call(self, op: Any, answer: Any, client: int = 1) -> None:
        self.ends(self.begins(op, client), answer)

    def lost(self, op: Any) -> None:
        self.events.append(Unsure(self.begins(op), "cut"))

    def clock(self, now: Micros) -> None:
        """Somebody reads the time: what was over before was over by then."""
        self.call(Count(), Stats(now, ()))

    def enqueue(self, id: str, *, how: How = How.CREATED, holder: str | None = None, **given: Any) -> None:
        self.call(Enqueue((spec(id, **given),)), (Enqueued(holder or id, how),))

    def claim(self, id: str, fence: int, now: Micros, claim_id: str = "", **given: Any) -> None:
        self.call(claim(claim_id or f"c{fence}-{now}"), Exchanged(now, claimed=(taken(id, fence, **given),)))

    def settle(self, end: Settlement, now: Micros, *, refused: bool = False) -> None:
        answer = Exchanged(now, refused=(Lease(end.id, end.fence),) if refused else ())
        self.call(Exchange("m", f"s{self.calls}", 0, (), (), LEASE, (end,)), answer)

    def job(self, id: str, created: Micros = 0, ended: Micros | None = None, **given: Any) -> None:
        state, result = State.READY if ended is None else State.SUCCEEDED, given.pop("result", None)
        end = None if ended is None else End(ended, result=result)
        history: tuple[Attempt, ...] = given.pop("history", ())
        life = Life(given.pop("state", state), created, end=end, history=history)
        self.jobs.append(Job(spec(id, **given), len(self.jobs) + 1, created, created, None, life))

    def told(self) -> History:
        history = History(self.events)
        if self.jobs:
            history.dump = Dump(tuple(self.jobs), (), (), 0)
            history.stats = self.stats
        return history


def spec(id: str, **given: Any) -> Spec:
    return Spec(id, "x", "a", b"", **given)


def claim(claim_id: str) -> Exchange:
    return Exchange("m", claim_id, 1, ("a",), ("x",), LEASE)


def taken(id: str, fence: int, wait_us: int = 5, **given: Any) -> Claimed:
    return Claimed(spec(id, **given), 1, fence, 0, wait_us, wait_us)


def success(id: str, fence: int, result: bytes = b"1") -> Settlement:
    return Settlement(id, fence, Verb.SUCCEED, result)


def accused(story: Story) -> set[str]:
    history = story.told()
    return {name for name, (judge, _) in JUDGES.items() if judge(history)}


# --- histories that no store may have -----------------------------------------------------------------------------

BAD: dict[str, tuple[str, Any]] = {}


def bad(judge: str) -> Any:
    def register(write: Any) -> Any:
        BAD[write.__name__] = judge, write
        return write

    return register


@bad("fences_grow")
def one_fence_for_two_claims(story: Story) -> None:
    story.claim("j", 1, 10, "c1")
    story.claim("j", 1, 20, "c2")


@bad("fences_grow")
def a_smaller_fence_later(story: Story) -> None:
    story.claim("j", 3, 10)
    story.claim("j", 1, 20)


@bad("leases_never_overlap")
def claimed_while_it_was_leased(story: Story) -> None:
    story.claim("j", 1, 10)
    story.claim("j", 3, 20)
    story.clock(25)


@bad("leases_never_overlap")
def claimed_while_its_lease_was_renewed(story: Story) -> None:
    story.claim("j", 1, 10)
    story.call(Renew("m", (Lease("j", 1),), LEASE), Renewed(900))
    story.claim("j", 3, 1_200)
    story.clock(1_300)


@bad("leases_never_overlap")
def claimed_before_it_was_settled(story: Story) -> None:
    story.claim("j", 1, 10)
    settling = story.begins(Exchange("m", "s", 0, (), (), LEASE, (Settlement("j", 1, Verb.RETRY),)))
    story.claim("j", 3, 20)
    story.clock(25)
    story.ends(settling, Exchanged(500))


@bad("ends_are_accepted_once")
def two_ends_of_one_attempt(story: Story) -> None:
    story.claim("j", 1, 10)
    story.settle(success("j", 1, b"1"), 20)
    story.settle(success("j", 1, b"2"), 30)


@bad("ends_are_accepted_once")
def an_end_from_a_fence_of_nobody(story: Story) -> None:
    story.claim("j", 1, 10)
    story.settle(success("j", 2), 20)


@bad("nothing_is_lost")
def an_acknowledged_job_is_gone(story: Story) -> None:
    story.enqueue("j")
    story.job("other")


@bad("nothing_is_lost")
def a_job_whose_deletion_was_refused_is_gone(story: Story) -> None:
    story.enqueue("j")
    story.call(DeleteJobs(("j",)), (Changed("j", Change.REFUSED, State.RUNNING),))
    story.job("other")


@bad("ids_are_made_once")
def one_id_made_twice(story: Story) -> None:
    story.enqueue("j")
    story.enqueue("j")
    story.job("j")


@bad("keys_have_one_holder")
def two_live_holders_of_a_key(story: Story) -> None:
    story.enqueue("first", unique=UniqueKey("k"))
    story.enqueue("second", unique=UniqueKey("k"))
    story.job("first", 10, unique=UniqueKey("k"))
    story.job("second", 20, unique=UniqueKey("k"))


@bad("keys_have_one_holder")
def a_holder_made_before_the_last_one_ended(story: Story) -> None:
    story.enqueue("first", unique=UniqueKey("k"))
    story.enqueue("second", unique=UniqueKey("k"))
    story.clock(30)
    story.job("first", 10, 900, unique=UniqueKey("k"))
    story.job("second", 20, 990, unique=UniqueKey("k"))


@bad("cancelled_stays_so")
def claimed_after_it_was_cancelled(story: Story) -> None:
    story.call(CancelJobs(("j",)), (Changed("j", Change.DONE, State.CANCELLED),))
    story.claim("j", 1, 10)


@bad("nothing_starts_early")
def claimed_before_it_was_due(story: Story) -> None:
    story.claim("j", 1, 10)
    story.clock(11)
    story.job("j", 5, delay_us=100)


@bad("order_within_a_claim")
def a_claim_against_the_order(story: Story) -> None:
    story.enqueue("high", priority=9)
    both = (taken("low", 1), taken("high", 1, priority=9))
    story.call(claim("c"), Exchanged(10, claimed=both))
    story.job("low")
    story.job("high", priority=9)


@bad("counts_are_conserved")
def counts_that_are_not_the_rows(story: Story) -> None:
    story.enqueue("j")
    story.job("j")
    story.stats = Stats(9, (QueueStat("a", False, ((State.READY, 2),), 1),))


@bad("counts_are_conserved")
def a_job_that_nobody_asked_for(story: Story) -> None:
    story.job("j")
    story.stats = Stats(9, (QueueStat("a", False, ((State.READY, 1),), 1),))


@bad("results_are_those_told")
def an_accepted_success_that_is_not_there(story: Story) -> None:
    story.claim("j", 1, 10)
    story.settle(success("j", 1), 20)
    story.job("j")


@bad("results_are_those_told")
def another_result_than_the_one_accepted(story: Story) -> None:
    story.claim("j", 1, 10)
    story.settle(success("j", 1, b"right"), 20)
    story.job("j", 0, 20, result=b"wrong")


@bad("time_never_falls")
def time_that_fell(story: Story) -> None:
    story.clock(100)
    story.clock(99)


@pytest.mark.proves(26)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_rejected_by_its_judge_alone(name: str) -> None:
    judge, write = BAD[name]
    story = Story()
    write(story)
    assert accused(story) == {judge}


# --- odd, and legal -----------------------------------------------------------------------------------------------

ODD: dict[str, Any] = {}


def odd(write: Any) -> Any:
    ODD[write.__name__] = write
    return write


@odd
def a_claim_that_was_repeated(story: Story) -> None:
    story.claim("j", 1, 10, "c")
    story.claim("j", 1, 900, "c")
    story.call(Maintain(LEASE), Maintained(1_010, reaped=1))
    story.claim("j", 3, 1_010)
    story.clock(1_020)


@odd
def an_end_whose_answer_was_lost(story: Story) -> None:
    story.claim("j", 1, 10)
    story.lost(Exchange("m", "s", 0, (), (), LEASE, (Settlement("j", 1, Verb.RETRY),)))
    story.claim("j", 3, 20)
    story.clock(25)
    story.settle(Settlement("j", 1, Verb.RETRY), 30)


@odd
def a_claim_whose_answer_was_lost(story: Story) -> None:
    story.lost(claim("c"))
    story.claim("j", 1, 900, "c")
    story.claim("j", 3, 1_100)
    story.clock(1_200)


@odd
def a_renewal_that_made_a_lease_shorter(story: Story) -> None:
    story.claim("j", 1, 10)
    story.call(Renew("m", (Lease("j", 1),), 5), Renewed(20))
    story.claim("j", 3, 30)
    story.clock(31)


@odd
def a_late_end_of_a_lease_that_has_run_out(story: Story) -> None:
    story.claim("j", 1, 10)
    story.settle(success("j", 1), 5_000)
    story.job("j", 0, 5_000, result=b"1")


@odd
def a_stale_end_that_was_refused(story: Story) -> None:
    story.claim("j", 1, 10)
    story.claim("j", 3, 2_000)
    story.settle(success("j", 1, b"old"), 2_010, refused=True)
    story.settle(success("j", 3, b"new"), 2_020)
    story.settle(success("j", 3, b"new"), 2_030)
    story.job("j", 0, 2_020, result=b"new")


@odd
def a_job_that_was_deleted_and_made_again(story: Story) -> None:
    story.enqueue("j")
    story.claim("j", 1, 10)
    story.settle(success("j", 1), 20)
    story.call(DeleteJobs(("j",)), (Changed("j", Change.DONE),))
    story.enqueue("j")
    story.claim("j", 1, 30)
    story.job("j")


@odd
def a_deletion_whose_answer_was_lost(story: Story) -> None:
    story.enqueue("j")
    story.lost(DeleteJobs(("j",)))
    story.job("other")


@odd
def a_claim_that_began_before_its_job_was_cancelled(story: Story) -> None:
    claiming = story.begins(claim("c"), client=2)
    story.call(CancelJobs(("j",)), (Changed("j", Change.REQUESTED, State.RUNNING),))
    story.call(CancelJobs(("k",)), (Changed("k", Change.DONE, State.CANCELLED),))
    answer = Exchanged(10, claimed=(taken("j", 1), taken("k", 1)), cancels=(CancelRequested("j", 1, ""),))
    story.ends(claiming, answer)


@odd
def times_of_calls_that_overlap(story: Story) -> None:
    first, second = story.begins(Count(), 1), story.begins(Count(), 2)
    story.ends(second, Stats(50, ()))
    story.ends(first, Stats(49, ()))


@odd
def a_key_taken_in_the_instant_in_which_it_was_free(story: Story) -> None:
    story.enqueue("first", unique=UniqueKey("k"))
    story.enqueue("second", unique=UniqueKey("k"))
    story.clock(50)
    story.job("first", 10, 40, unique=UniqueKey("k"))
    story.job("second", 39, 60, unique=UniqueKey("k"))  # its time was read before it waited for the other


@odd
def a_better_job_that_came_while_the_claim_was_under_way(story: Story) -> None:
    claiming = story.begins(claim("c"), client=2)
    story.enqueue("high", priority=9)
    story.ends(claiming, Exchanged(10, claimed=(taken("low", 1), taken("high", 1, priority=9))))
    story.job("low")
    story.job("high", priority=9)


@odd
def a_key_taken_by_one_that_had_waited_for_it(story: Story) -> None:
    waiting = story.begins(Enqueue((spec("second", unique=UniqueKey("k")),)))
    story.enqueue("first", unique=UniqueKey("k"))
    story.clock(50)
    story.ends(waiting, (Enqueued("second", How.CREATED),))
    story.clock(80)
    story.job("second", 10, 99, unique=UniqueKey("k"))  # its time was read before it waited
    story.job("first", 20, 60, unique=UniqueKey("k"))


@odd
def an_enqueue_that_was_refused(story: Story) -> None:
    story.events.append(Failed(story.begins(Enqueue((spec("j"),))), "full"))
    story.job("other")


@pytest.mark.parametrize("name", ODD)
def test_an_odd_history_is_accepted(name: str) -> None:
    story = Story()
    ODD[name](story)
    assert accused(story) == set()
