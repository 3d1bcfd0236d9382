"""The engine without a loop, a clock or a store: events in, effects out."""

from __future__ import annotations

from itertools import count

import pytest

from taskweave.core.effects import Abandon, Announce, CancelRun, CheckIdle, Effect, Run, SendExchange, Stop, Why
from taskweave.core.engine import GATHER_US, LATE_STOP_US, Engine, Lane, Settings
from taskweave.core.events import (
    CancelsRequested,
    Committed,
    Ended,
    Ending,
    Event,
    ExchangeAnswered,
    ExchangeFailed,
    IdleChecked,
    LeasesLost,
    Progressed,
    RunEnded,
    StopRequested,
    Ticked,
    Woken,
)
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Failure, Progress, Spec, Verb
from taskweave.core.retry import Retry
from taskweave.core.verbs import CancelRequested, Claimed, Exchange, Exchanged, Lease, LeaseProgress

BOOM = Failure("ValueError", "boom", kinds=("builtins.ValueError", "builtins.Exception"))


def claimed(id: str, *, task: str = "t", attempt: int = 1, fence: int = 1, lost: int = 0, **spec: object) -> Claimed:
    return Claimed(Spec(id, task, "default", b"[[],{}]", **spec), attempt, fence, lost, 0, 0)  # type: ignore[arg-type]  # tests pass fields by name


class Bench:
    """An engine with its exchanges answered by hand."""

    def __init__(self, *, retry: Retry | None = None, **settings: object) -> None:
        numbers = count(1)
        self.engine = Engine(Settings("me", **settings), {"t": retry}, lambda: f"c{next(numbers)}")  # type: ignore[arg-type]  # as above
        self.now: Micros = 0
        self.effects: list[Effect] = []
        self.tell(Ticked())

    def tell(self, event: Event, after: Micros = 0) -> list[Effect]:
        self.now += after
        effects = self.engine.handle(event, self.now)
        self.effects += effects
        return effects

    @property
    def sent(self) -> Exchange:
        assert self.engine.sent is not None
        return self.engine.sent

    def answer(self, *jobs: Claimed, refused: tuple[Lease, ...] = (), next_due: Micros | None = None) -> list[Effect]:
        answer = Exchanged(self.now, refused, jobs, next_due=next_due)
        return self.tell(ExchangeAnswered(self.sent.claim_id, answer))

    def end(self, id: str, ending: Ending = Ending.RETURNED, fence: int = 1, **facts: object) -> list[Effect]:
        return self.tell(Ended((RunEnded(id, fence, ending, **facts),)))  # type: ignore[arg-type]  # as above

    def settle(self) -> list[tuple[str, Verb]]:
        """What the exchange under way settles."""
        return [(one.id, one.verb) for one in self.sent.settle]


def of(kind: type[Effect], effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_an_idle_worker_asks_at_once_for_at_most_half_of_its_slots() -> None:
    bench = Bench(slots=10)
    assert bench.sent.want == 5
    assert bench.sent.queues == ("default",)
    assert bench.sent.tasks == ("t",)


def test_a_full_answer_is_followed_by_another_exchange_while_the_first_half_runs() -> None:
    bench = Bench(slots=4)
    effects = bench.answer(claimed("a"), claimed("b"))
    assert [type(effect) for effect in effects] == [Run, SendExchange]
    assert bench.sent.want == 2


def test_claimed_jobs_never_exceed_the_free_slots() -> None:
    bench = Bench(slots=3)
    bench.answer(claimed("a"), claimed("b"))
    assert bench.sent.want == 1
    bench.answer(claimed("c"))
    assert bench.engine.sent is None


def test_what_ends_during_an_exchange_rides_on_the_next_one_together() -> None:
    bench = Bench(slots=4)
    bench.answer(claimed("a"), claimed("b"))
    bench.end("a", result=b"1")
    bench.end("b", result=b"2")
    bench.answer()
    assert bench.settle() == [("a", Verb.SUCCEED), ("b", Verb.SUCCEED)]


def test_ends_are_announced_when_the_store_has_them_and_refused_ones_are_not() -> None:
    bench = Bench()
    bench.answer(claimed("a"), claimed("b"))
    bench.end("a", result=b"1")
    assert not of(Announce, bench.effects)
    bench.end("b", result=b"1")
    (first,) = of(Announce, bench.answer(refused=(Lease("a", 1),)))
    assert isinstance(first, Announce)
    assert first.settled == ()
    assert first.refused == (Lease("a", 1),)
    (second,) = of(Announce, bench.answer())
    assert isinstance(second, Announce)
    assert [one.id for one in second.settled] == ["b"]


def test_an_exchange_that_failed_is_resent_as_it_was_after_a_back_off() -> None:
    bench = Bench()
    request = bench.sent
    for failure in range(12):
        bench.tell(ExchangeFailed(request.claim_id, "down", True, 0.999))
        at = bench.engine.wake_at()
        assert at is not None
        assert bench.now < at <= bench.now + 30 * SECOND
        assert not bench.tell(Woken()), "a hint does not shorten the back-off"
        effects = bench.tell(Ticked(), after=at - bench.now)
        assert effects == [SendExchange(request)], failure
    bench.answer()
    assert bench.engine.sent is not None, "the hint was not forgotten"


def test_leases_count_from_the_first_sending_of_an_exchange_that_was_resent() -> None:
    bench = Bench()
    bench.tell(ExchangeFailed(bench.sent.claim_id, "the answer was lost", True, 0.5))
    at = bench.engine.wake_at()
    assert at is not None
    bench.tell(Ticked(), after=at)
    (run,) = of(Run, bench.answer(claimed("a")))
    assert isinstance(run, Run)
    assert run.sent_at == 0 < bench.now


def test_a_store_error_that_cannot_pass_stops_the_worker_with_its_words() -> None:
    bench = Bench()
    effects = bench.tell(ExchangeFailed(bench.sent.claim_id, "not a database", False, 0.0))
    assert effects == [Stop("not a database")]
    assert bench.tell(Woken()) == []
    assert bench.engine.wake_at() is None


def test_answers_and_failures_of_other_exchanges_are_ignored() -> None:
    bench = Bench()
    before = bench.sent
    bench.tell(ExchangeFailed("c99", "late", True, 0.5))
    bench.tell(ExchangeAnswered("c99", Exchanged(0, (), (claimed("a"),))))
    assert bench.engine.sent is before
    assert not bench.engine.running


def test_an_idle_worker_polls_and_wakes_earlier_for_what_is_due_earlier() -> None:
    bench = Bench(poll_us=SECOND)
    bench.answer()
    assert bench.engine.wake_at() == SECOND
    assert bench.tell(Ticked(), after=SECOND - 1) == []
    assert of(SendExchange, bench.tell(Ticked(), after=1))
    bench.answer(next_due=bench.now + 200)
    assert bench.engine.wake_at() == bench.now + 1_000, "no busy loop on a job that is due at once"
    bench.tell(Ticked(), after=1_000)
    bench.answer(next_due=bench.now + SECOND // 2)
    assert bench.engine.wake_at() == bench.now + SECOND // 2


def test_a_hint_is_followed_at_once_with_a_free_slot_and_seldom_without() -> None:
    bench = Bench(slots=1, attend_us=SECOND)
    bench.answer()
    assert of(SendExchange, bench.tell(Woken()))
    bench.answer(claimed("a"))
    assert bench.engine.sent is None
    assert not bench.tell(Woken())
    at = bench.engine.wake_at()
    assert at == SECOND
    effects = bench.tell(Ticked(), after=SECOND)
    assert of(SendExchange, effects)
    assert bench.sent.want == 0


def test_a_timeout_stops_the_run_and_is_retried_as_a_failure_that_says_how_long_it_ran() -> None:
    bench = Bench(slots=1, retry=Retry(3, base="1s", jitter=False))
    bench.answer(claimed("a", timeout_us=5 * SECOND, max_attempts=3))
    assert bench.engine.wake_at() == 5 * SECOND
    assert bench.tell(Ticked(), after=5 * SECOND - 1) == []
    assert CancelRun("a", 1, Why.TIMEOUT) in bench.tell(Ticked(), after=1)
    bench.end("a", Ending.STOPPED)
    (settlement,) = bench.sent.settle
    assert (settlement.verb, settlement.cause, settlement.delay_us) == (Verb.RETRY, "timeout", SECOND)
    assert settlement.error is not None
    assert settlement.error.message.startswith("stopped after 5.000 s")


def test_a_run_that_ignores_its_timeout_is_decided_without_it_and_keeps_its_slot() -> None:
    bench = Bench(slots=1, obey_us=SECOND)
    bench.answer(claimed("a", timeout_us=SECOND))
    bench.tell(Ticked(), after=SECOND)
    effects = bench.tell(Ticked(), after=SECOND)
    assert Abandon("a", 1) in effects
    (settlement,) = bench.sent.settle
    assert settlement.verb is Verb.FAIL
    assert settlement.error is not None
    assert "ignored its cancellation" in settlement.error.message
    bench.answer()
    assert bench.engine.used == 1, "a slot that is really taken is not handed out"
    bench.end("a", result=b"late")
    assert bench.engine.used == 0
    assert bench.settle() == [], "what it says then is not heard"


def test_success_after_a_stop_was_asked_for_stands() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    effects = bench.tell(CancelsRequested((CancelRequested("a", 1, "changed my mind"),)))
    assert of(CancelRun, effects) == [CancelRun("a", 1, Why.CANCELLED)]
    bench.end("a", result=b"1")
    assert bench.settle() == [("a", Verb.SUCCEED)]


def test_a_cancelled_run_ends_cancelled_with_the_words_of_who_asked() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    bench.tell(CancelsRequested((CancelRequested("a", 2, "another fence"),)))
    assert bench.engine.running["a"].why is None
    bench.tell(CancelsRequested((CancelRequested("a", 1, "changed my mind"), CancelRequested("a", 1, "twice"))))
    bench.end("a", Ending.STOPPED)
    (settlement,) = bench.sent.settle
    assert (settlement.verb, settlement.reason) == (Verb.CANCEL, "changed my mind")


def test_a_lost_lease_silences_the_run() -> None:
    bench = Bench()
    bench.answer(claimed("a"), claimed("b"))
    effects = bench.tell(LeasesLost((Lease("a", 1), Lease("b", 7), Lease("zz", 1))))
    assert of(CancelRun, effects) == [CancelRun("a", 1, Why.LEASE_LOST)]
    bench.end("a", Ending.STOPPED)
    assert bench.engine.outbox == []
    assert "a" not in bench.engine.running


def test_a_lost_lease_is_stronger_than_an_earlier_cancel() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    bench.tell(CancelsRequested((CancelRequested("a", 1, "stop"),)))
    bench.tell(LeasesLost((Lease("a", 1),)))
    bench.end("a", Ending.STOPPED)
    assert bench.engine.outbox == []


def test_a_job_that_comes_back_while_its_old_run_goes_on_is_run_anew_beside_it() -> None:
    bench = Bench(slots=4)
    bench.answer(claimed("a"))
    effects = bench.answer(claimed("a", fence=3)) if bench.engine.sent else []
    if not effects:
        bench.tell(Woken())
        effects = bench.answer(claimed("a", fence=3))
    assert CancelRun("a", 1, Why.LEASE_LOST) in effects
    assert bench.engine.used == 2
    bench.end("a", Ending.STOPPED, fence=1)
    assert bench.engine.used == 1


def test_a_drain_claims_nothing_lets_runs_end_and_stops_when_all_is_settled() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    assert bench.tell(StopRequested(30 * SECOND)) == []
    bench.end("a", result=b"1")
    assert bench.sent.want == 0
    assert of(Stop, bench.answer()) == [Stop()]


@pytest.mark.proves(41)
def test_at_the_end_of_the_grace_the_rest_is_released_unharmed() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    bench.tell(StopRequested(10 * SECOND))
    assert bench.engine.wake_at() == 10 * SECOND
    assert of(CancelRun, bench.tell(Ticked(), after=10 * SECOND)) == [CancelRun("a", 1, Why.DRAIN)]
    bench.end("a", Ending.STOPPED)
    assert bench.settle() == [("a", Verb.RELEASE)]
    assert of(Stop, bench.answer())


def test_a_second_stop_releases_now() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    bench.tell(StopRequested(3600 * SECOND))
    assert of(CancelRun, bench.tell(StopRequested(3600 * SECOND))) == [CancelRun("a", 1, Why.DRAIN)]


def test_a_drain_ends_in_time_even_when_the_store_does_not_answer() -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    bench.tell(StopRequested(SECOND))
    bench.tell(Ticked(), after=SECOND)
    bench.end("a", Ending.STOPPED)
    bench.tell(ExchangeFailed(bench.sent.claim_id, "down", True, 0.5))
    assert of(Stop, bench.tell(Ticked(), after=LATE_STOP_US)) == [Stop()]


def test_jobs_that_arrive_after_the_stop_go_back_unharmed() -> None:
    bench = Bench()
    bench.tell(StopRequested(SECOND))
    effects = bench.answer(claimed("a"))
    assert not of(Run, effects)
    assert bench.settle() == [("a", Verb.RELEASE)]


@pytest.mark.parametrize(
    ("ending", "facts", "verb", "cause"),
    [
        (Ending.RAISED, {"failure": BOOM}, Verb.FAIL, "exception"),
        (Ending.DIED, {"reason": "SIGSEGV"}, Verb.FAIL, "exception"),
        (Ending.CANCELLED, {"reason": "enough"}, Verb.CANCEL, "task"),
        (Ending.ABORTED, {"failure": BOOM}, Verb.FAIL, "abort"),
        (Ending.ABORTED, {"failure": BOOM, "cause": "result_error"}, Verb.FAIL, "result_error"),
        (Ending.SNOOZED, {"delay_us": SECOND}, Verb.SNOOZE, None),
        (Ending.RETRY_AFTER, {"delay_us": SECOND, "failure": BOOM}, Verb.FAIL, "exhausted"),
        (Ending.UNFIT, {"cause": "unknown_task"}, Verb.RELEASE, "unknown_task"),
        (Ending.STOPPED, {}, Verb.RELEASE, None),
    ],
)
def test_each_way_to_end_without_a_retry_policy(
    ending: Ending, facts: dict[str, object], verb: Verb, cause: str | None
) -> None:
    bench = Bench()
    bench.answer(claimed("a"))
    bench.end("a", ending, **facts)
    (settlement,) = bench.sent.settle
    assert (settlement.verb, settlement.cause) == (verb, cause)


def test_the_row_s_attempts_beat_the_registry() -> None:
    bench = Bench(retry=Retry(50, jitter=False))
    bench.answer(claimed("a", attempt=2, max_attempts=2))
    bench.end("a", Ending.RAISED, failure=BOOM)
    assert bench.settle() == [("a", Verb.FAIL)]
    assert bench.sent.settle[0].cause == "exhausted"


def test_retry_after_is_a_spent_attempt_with_its_own_delay() -> None:
    bench = Bench(retry=Retry(3))
    bench.answer(claimed("a", max_attempts=3))
    bench.end("a", Ending.RETRY_AFTER, delay_us=42 * SECOND, failure=BOOM)
    assert (bench.sent.settle[0].verb, bench.sent.settle[0].delay_us) == (Verb.RETRY, 42 * SECOND)


@pytest.mark.parametrize("ending", [Ending.SNOOZED, Ending.RETRY_AFTER])
def test_max_elapsed_bounds_snoozes_and_retries(ending: Ending) -> None:
    bench = Bench(retry=Retry(9, max_elapsed="10s"))
    bench.answer(claimed("a", max_attempts=9))
    bench.end("a", ending, delay_us=11 * SECOND)
    assert (bench.sent.settle[0].verb, bench.sent.settle[0].cause) == (Verb.FAIL, "max_elapsed")


def test_a_worker_holds_at_most_one_job_whose_next_loss_would_be_its_last() -> None:
    bench = Bench(slots=4)
    assert bench.sent.fragile == 1
    bench.answer(claimed("a", lost=2), claimed("b"))
    assert bench.sent.fragile == 0
    bench.answer()
    bench.end("a", Ending.STOPPED)
    bench.answer()
    bench.tell(Woken())
    assert bench.sent.fragile == 1


def test_when_the_fragile_job_ends_the_next_one_is_asked_for_at_once() -> None:
    bench = Bench(slots=4, until_idle=True)
    bench.answer(claimed("a", lost=2))
    bench.tell(Woken())
    assert bench.sent.fragile == 0
    assert not of(CheckIdle, bench.answer()), "what may not be claimed now is no sign of an empty queue"
    bench.end("a", result=b"1")
    assert (bench.sent.fragile, bench.sent.want) == (1, 2)
    assert not of(Stop, bench.answer(claimed("b", lost=2)))


def test_queues_come_first_as_often_as_their_weights_say() -> None:
    bench = Bench(queues=(("a", 3), ("b", 1)))
    firsts = []
    for _ in range(8):
        firsts.append(bench.sent.queues[0])
        assert sorted(bench.sent.queues) == ["a", "b"]
        bench.answer()
        bench.tell(Woken())
    assert firsts.count("a") == 6


def test_a_narrow_lane_is_claimed_for_apart_and_never_beyond_its_slots() -> None:
    numbers = count(1)
    engine = Engine(Settings("me", slots=10), {"t": None, "p": None}, lambda: f"c{next(numbers)}", (Lane(("p",), 2),))
    wants: list[tuple[tuple[str, ...], int]] = []
    given = 0
    engine.handle(Ticked(), 0)
    for _ in range(12):
        request = engine.sent
        if request is None:
            break
        wants.append((request.tasks, request.want))
        jobs = tuple(claimed(f"j{given + i}", task=request.tasks[0]) for i in range(request.want))
        given += len(jobs)
        engine.handle(ExchangeAnswered(request.claim_id, Exchanged(0, (), jobs)), 0)
    assert wants[:2] == [(("t",), 5), (("p",), 1)], "hungry lanes take turns"
    assert sum(want for tasks, want in wants if tasks == ("p",)) <= 2
    assert engine.used == 10
    running = next(run for run in engine.running.values() if run.job.spec.task == "p")
    engine.handle(Ended((RunEnded(running.job.id, 1, Ending.RETURNED, b"1"),)), 0)
    assert engine.sent is not None
    assert (engine.sent.tasks, engine.sent.want) == (("p",), 1), "the lane that has a slot is claimed for"


def test_progress_rides_on_an_exchange_at_most_once_a_second() -> None:
    bench = Bench(slots=1)
    bench.answer(claimed("a"))
    report = LeaseProgress("a", 1, Progress(1, 2))
    assert bench.tell(Progressed((report,))) == []
    assert bench.engine.wake_at() == SECOND
    newer = LeaseProgress("a", 1, Progress(2, 2))
    bench.tell(Progressed((newer,)))
    assert of(SendExchange, bench.tell(Ticked(), after=SECOND))
    assert bench.sent.progress == (newer,)


def test_until_idle_waits_for_what_is_due_later_and_for_retries() -> None:
    bench = Bench(until_idle=True)
    assert not of(CheckIdle, bench.answer(next_due=5 * SECOND))
    bench.tell(Ticked(), after=5 * SECOND)
    assert not of(CheckIdle, bench.answer(claimed("a")))
    bench.end("a", Ending.RAISED, failure=BOOM)
    assert of(CheckIdle, bench.answer()) == [CheckIdle(("default",))]
    assert bench.tell(IdleChecked(leased=False)) == [Stop()]


def test_until_idle_waits_for_jobs_that_others_run_since_they_may_have_died() -> None:
    bench = Bench(until_idle=True)
    assert of(CheckIdle, bench.answer())
    assert bench.tell(IdleChecked(leased=True)) == []
    assert of(SendExchange, bench.tell(Ticked(), after=SECOND)), "it goes on polling"
    bench.answer(claimed("a"))
    bench.end("a", result=b"1")
    assert of(CheckIdle, bench.answer())
    assert bench.tell(IdleChecked(leased=False)) == [Stop()]


def test_wake_at_makes_progress_whatever_the_state() -> None:
    bench = Bench(slots=2, poll_us=SECOND)
    bench.answer(claimed("a", timeout_us=700_000))
    for _ in range(50):
        at = bench.engine.wake_at()
        if at is None:
            break
        assert at > bench.now or bench.engine.sent is not None
        effects = bench.tell(Ticked(), after=max(0, at - bench.now))
        assert effects or bench.engine.wake_at() != at
        if bench.engine.sent is not None:
            bench.answer()


# --- runs that settle themselves ----------------------------------------------------------------------------------


def committed(id: str, fence: int = 1, **facts: object) -> Committed:
    return Committed(RunEnded(id, fence, Ending.COMMITTED, b"1", **facts))  # type: ignore[arg-type]  # as above


def test_a_run_that_settled_itself_is_announced_once_and_never_settled_again() -> None:
    bench = Bench(slots=2)
    bench.answer(claimed("a"))
    told = of(Announce, bench.tell(committed("a")))
    assert [(one.id, one.verb, one.result) for one in told[0].settled] == [("a", Verb.SUCCEED, b"1")]  # type: ignore[attr-defined]  # an Announce
    bench.answer()
    effects = bench.end("a", Ending.COMMITTED, result=b"1")
    assert of(Announce, effects) == []
    assert bench.engine.outbox == []
    assert bench.engine.used == 0


def test_its_slot_stays_taken_and_its_timeout_counts_while_it_goes_on() -> None:
    bench = Bench(slots=1)
    bench.answer(claimed("a", timeout_us=SECOND))
    bench.tell(committed("a"))
    assert bench.engine.used == 1
    effects = bench.tell(Ticked(), after=SECOND)
    assert of(CancelRun, effects) == [CancelRun("a", 1, Why.TIMEOUT)]
    bench.tell(Ticked(), after=bench.engine.settings.obey_us)
    assert bench.engine.outbox == []  # left behind, and still not settled again


def test_its_lease_is_no_longer_anybodys_to_lose() -> None:
    bench = Bench(slots=2)
    bench.answer(claimed("a"))
    bench.tell(committed("a"))
    assert of(CancelRun, bench.tell(LeasesLost((Lease("a", 1),)))) == []
    bench.tell(Progressed((LeaseProgress("a", 1, Progress(1)),)))
    assert bench.engine.progress == {}


def test_a_success_that_the_store_took_stands_though_the_lease_seemed_lost() -> None:
    bench = Bench(slots=2)
    bench.answer(claimed("a"))
    bench.tell(LeasesLost((Lease("a", 1),)))
    assert len(of(Announce, bench.end("a", Ending.COMMITTED, result=b"1"))) == 1
    assert bench.engine.outbox == []


def test_one_that_was_left_behind_and_commits_after_all_beats_what_was_decided_without_it() -> None:
    bench = Bench(slots=2)
    bench.answer(claimed("a", timeout_us=SECOND))  # and the next exchange is under way, so that the outbox waits
    bench.tell(Ticked(), after=SECOND)
    bench.tell(Ticked(), after=bench.engine.settings.obey_us)
    assert [one.verb for one in bench.engine.outbox] == [Verb.FAIL]
    assert len(of(Announce, bench.tell(committed("a")))) == 1
    assert bench.engine.outbox == []


def test_a_settlement_refused_in_its_own_transaction_is_a_lost_lease() -> None:
    bench = Bench(slots=2)
    bench.answer(claimed("a"))
    effects = bench.end("a", Ending.REFUSED)
    assert of(Announce, effects) == [Announce((), (Lease("a", 1),))]
    assert bench.engine.outbox == []


def test_a_commit_asks_for_more_at_once_as_any_other_end_does() -> None:
    bench = Bench(slots=2)
    bench.answer(claimed("a"))
    bench.answer()  # there is nothing more, so the next poll would be the next exchange
    effects = bench.tell(committed("a"))
    assert len(of(SendExchange, effects)) == 1
    assert bench.sent.settle == ()


def test_slots_of_runs_that_settle_themselves_gather_before_they_are_filled() -> None:
    bench = Bench(slots=8)
    bench.answer(*[claimed(f"a{n}") for n in range(4)])
    bench.answer(*[claimed(f"b{n}") for n in range(4)])  # all that was asked for, so that there may be more
    for n in range(3):
        bench.tell(committed(f"a{n}"))
        bench.end(f"a{n}", Ending.COMMITTED)
    assert bench.engine.sent is None, "an exchange for each would cost more than it is worth"
    assert bench.engine.wake_at() == bench.engine._last_sent + GATHER_US
    bench.tell(committed("a3"))
    bench.end("a3", Ending.COMMITTED)
    assert bench.sent.want == 4, "half of the slots are free"
    bench.answer(*[claimed(f"c{n}") for n in range(4)])
    bench.tell(committed("b0"))
    bench.end("b0", Ending.COMMITTED)
    assert bench.engine.sent is None
    bench.tell(Ticked(), after=GATHER_US)
    assert bench.sent.want == 1, "or have waited long enough"
