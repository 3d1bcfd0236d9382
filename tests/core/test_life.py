"""A job's life: every pair of NEXT is taken by a step, every other pair is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from taskweave.core import life
from taskweave.core.ids import HOUR, SECOND
from taskweave.core.job import NEXT, TERMINAL, UNSTARTED, Failure, Job, Life, Progress, Spec, State, Verb, move
from taskweave.core.retry import Retry, next_delay
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import Change, Settlement
from taskweave.exceptions import IllegalTransition

NOW = 1_000 * SECOND
LEASE = 30 * SECOND
SPEC = Spec("id", "task", "queue", b"{}", max_attempts=2, expires_in_us=HOUR)
BOOM = Failure("ValueError", "boom")

ALL = [(state, verb) for state in State for verb in Verb]


def job(state: State, spec: Spec = SPEC) -> Job:
    """A job in this state, brought there by steps alone."""
    if state is State.SCHEDULED:
        return life.born(evolve(spec, delay_us=5), 1, NOW)
    ready = life.born(spec, 1, NOW)
    if state is State.READY:
        return ready
    if state is State.EXPIRED:
        gone = life.expire(ready, NOW + HOUR)
        assert gone is not None
        return ready.with_life(gone)
    if state is State.LOST:
        ready = life.born(evolve(spec, at_most_once=True, max_attempts=1), 1, NOW)
    running = ready.with_life(life.claim(ready.life, "m", "c", NOW, LEASE))
    if state is State.RUNNING:
        return running
    if state is State.LOST:
        ended = life.reap(running, NOW + LEASE)
    else:
        verb = {State.SUCCEEDED: Verb.SUCCEED, State.FAILED: Verb.FAIL, State.CANCELLED: Verb.CANCEL}[state]
        ended = life.settle(running, Settlement("id", 1, verb, b"1"), NOW)
    assert ended is not None
    return running.with_life(ended)


def ends(verb: Verb) -> Callable[[Job], Life | None]:
    return lambda row: life.settle(row, Settlement("id", row.life.fence, verb, error=BOOM, delay_us=1), NOW)


def cancels(row: Job) -> Life | None:
    change, after = life.cancel(row.life, "why", NOW)
    return after if change is Change.DONE else None


def edited(job: Job | None) -> Life | None:
    return None if job is None else job.life


STEPS: dict[Verb, Callable[[Job], Life | None]] = {
    Verb.PROMOTE: lambda row: life.promote(row.life, NOW + 5),
    Verb.CLAIM: lambda row: life.claim(row.life, "m", "c", NOW, LEASE),
    Verb.SUCCEED: ends(Verb.SUCCEED),
    Verb.FAIL: ends(Verb.FAIL),
    Verb.RETRY: ends(Verb.RETRY),
    Verb.SNOOZE: ends(Verb.SNOOZE),
    Verb.RELEASE: ends(Verb.RELEASE),
    Verb.LOSE: lambda row: life.reap(row, NOW + LEASE),
    Verb.ABANDON: lambda row: life.reap(evolve(row, spec=evolve(row.spec, at_most_once=True)), NOW + LEASE),
    Verb.CANCEL: cancels,
    Verb.EXPIRE: lambda row: life.expire(row, NOW + HOUR),
    Verb.REVIVE: lambda row: edited(life.revive(row, "me", NOW)),
    Verb.POSTPONE: lambda row: edited(life.changed(row, None, 7, NOW)),
}
PROMOTED_AT_ONCE = (Verb.LOSE, Verb.REVIVE)  # scheduled for now, and so ready in the same step


@pytest.mark.proves(56)
@pytest.mark.parametrize(("state", "verb"), ALL)
def test_move_is_the_table(state: State, verb: Verb) -> None:
    if (state, verb) in NEXT:
        assert move(state, verb) is NEXT[state, verb]
    else:
        with pytest.raises(IllegalTransition, match="unchanged"):
            move(state, verb)


@pytest.mark.proves(56)
@pytest.mark.parametrize(("state", "verb"), ALL)
def test_each_step_goes_where_the_table_says_or_nowhere(state: State, verb: Verb) -> None:
    before = job(state)
    step = STEPS[verb] if (state, verb) != (State.RUNNING, Verb.CANCEL) else ends(Verb.CANCEL)
    try:
        after = step(before)
    except IllegalTransition:
        after = None
    assert before == job(state), "a step changed a value"
    if (state, verb) not in NEXT:
        assert after is None or after is before.life
    else:
        assert after is not None
        assert after.state is (State.READY if verb in PROMOTED_AT_ONCE else NEXT[state, verb])


def test_every_verb_of_the_table_has_a_step() -> None:
    assert {verb for _, verb in NEXT} == STEPS.keys()


@pytest.mark.parametrize("state", State)
def test_a_hold_exists_while_it_runs_and_an_end_when_it_has_finished(state: State) -> None:
    one = job(state)
    assert (one.life.hold is not None) == (state is State.RUNNING)
    assert (one.life.end is not None) == (state in TERMINAL) == one.finished
    assert one.state is state
    assert one.id == "id"


# --- settlement ---------------------------------------------------------------------------------------------------


def settled(before: Job, verb: Verb, now: int = NOW + 3, **rest: object) -> Life:
    after = life.settle(before, Settlement("id", before.life.fence, verb, **rest), now)  # type: ignore[arg-type]
    assert after is not None
    return after


def test_the_same_settlement_again_is_a_repeat_and_another_is_stale() -> None:
    before = job(State.RUNNING)
    retry = Settlement("id", 1, Verb.RETRY, error=BOOM)
    again = life.settle(before, retry, NOW)
    assert again is not None
    waiting = before.with_life(again)
    assert life.settle(waiting, retry, NOW + 9) is again
    assert life.settle(waiting, evolve(retry, reason="other"), NOW) is None
    running = waiting.with_life(life.claim(again, "n", "d", NOW, LEASE))
    assert life.settle(running, retry, NOW) is running.life
    assert life.settle(running, evolve(retry, verb=Verb.SUCCEED), NOW) is None


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb not in life.SETTLING])
def test_a_settlement_cannot_carry_a_verb_of_the_store(verb: Verb) -> None:
    with pytest.raises(IllegalTransition):
        life.settle(job(State.RUNNING), Settlement("id", 1, verb), NOW)


def test_a_terminal_settlement_keeps_the_fence_and_others_take_a_new_one() -> None:
    before = job(State.RUNNING)
    assert settled(before, Verb.SUCCEED, result=b"1").fence == 1
    assert settled(before, Verb.RETRY).fence == 2


def test_retry_and_snooze_move_run_at_and_a_plain_release_does_not() -> None:
    before = job(State.RUNNING)
    assert settled(before, Verb.RETRY, delay_us=10).run_at == NOW + 13
    assert settled(before, Verb.SNOOZE).run_at == NOW + 3
    assert settled(before, Verb.SNOOZE).state is State.READY
    assert settled(before, Verb.RELEASE).run_at == NOW
    assert settled(before, Verb.RELEASE, delay_us=4).state is State.SCHEDULED


def test_the_attempt_is_spent_by_a_retry_and_given_back_otherwise() -> None:
    before = job(State.RUNNING)
    assert settled(before, Verb.RETRY).attempt == 1
    assert settled(before, Verb.SNOOZE).attempt == 0
    assert settled(before, Verb.RELEASE).attempt == 0


def test_the_last_attempt_ends_in_the_dead_letters() -> None:
    before = job(State.RUNNING)
    last = before.with_life(evolve(before.life, attempt=2))
    after = settled(last, Verb.RETRY, error=BOOM, cause=None)
    assert after.state is State.FAILED
    assert after.end is not None
    assert (after.end.cause, after.end.error) == ("exhausted", BOOM)
    assert settled(last, Verb.SNOOZE).state is State.READY


def test_a_job_that_no_worker_can_run_is_a_dead_letter_after_ten_releases() -> None:
    before = job(State.RUNNING)
    for count in range(life.UNFIT_MAX):
        unfit = before.with_life(evolve(before.life, unfit_count=count))
        after = settled(unfit, Verb.RELEASE, unfit=True, cause="unknown_task")
        assert after.unfit_count == count + 1
        assert after.state is (State.FAILED if count == life.UNFIT_MAX - 1 else State.READY)
    assert after.end is not None
    assert after.end.cause == "unknown_task"
    assert settled(unfit, Verb.RETRY, unfit=True).state is State.READY


def test_a_cancel_request_beats_what_would_run_again_and_not_what_ended() -> None:
    before = job(State.RUNNING)
    change, asked = life.cancel(before.life, "first", NOW)
    assert change is Change.REQUESTED
    assert life.cancel(asked, "second", NOW) == (Change.REQUESTED, asked)
    flagged = before.with_life(asked)
    for verb in (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE):
        after = settled(flagged, verb)
        assert after.state is State.CANCELLED
        assert after.end is not None
        assert after.end.reason == "first"
    assert settled(flagged, Verb.SUCCEED, result=b"1").state is State.SUCCEEDED
    assert settled(flagged, Verb.FAIL).state is State.FAILED
    lost = life.reap(flagged, NOW + LEASE)
    assert lost is not None
    assert lost.state is State.CANCELLED


def test_what_may_start_once_never_waits_again() -> None:
    once = job(State.RUNNING, evolve(SPEC, at_most_once=True, max_attempts=1))
    assert settled(once, Verb.RELEASE).state is State.LOST
    assert settled(once, Verb.SNOOZE).state is State.FAILED
    assert settled(once, Verb.RETRY).state is State.FAILED
    unfit = settled(once, Verb.RELEASE, unfit=True, cause="bad_payload")
    assert unfit.state is State.FAILED
    assert unfit.end is not None
    assert unfit.end.cause == "bad_payload"
    lost = life.reap(once, NOW + LEASE)
    assert lost is not None
    assert lost.state is State.LOST


def test_the_history_is_bounded_and_a_success_leaves_none() -> None:
    before = job(State.RUNNING)
    assert settled(before, Verb.SUCCEED, result=b"1").history == ()
    long = before.with_life(evolve(before.life, history=settled(before, Verb.FAIL).history * 10))
    assert len(settled(long, Verb.RETRY, error=BOOM).history) == life.HISTORY_MAX


# --- leases -------------------------------------------------------------------------------------------------------


def test_a_lease_is_over_exactly_at_its_end() -> None:
    before = job(State.RUNNING)
    end = NOW + LEASE
    renewed = life.renew(before.life, 1, end - 1, LEASE)
    assert renewed is not None
    assert renewed.hold is not None
    assert renewed.hold.lease_until == end - 1 + LEASE
    assert life.renew(before.life, 1, end, LEASE) is None
    assert life.renew(before.life, 2, NOW, LEASE) is None
    assert life.renew(job(State.READY).life, 0, NOW, LEASE) is None
    assert life.reap(before, end - 1) is None
    assert life.reap(before, end) is not None


def test_progress_is_fenced_and_lives_as_long_as_the_hold() -> None:
    before = job(State.RUNNING)
    after = life.progressed(before.life, 1, Progress(0.5))
    assert after is not None
    assert after.hold is not None
    assert after.hold.progress == Progress(0.5)
    assert life.progressed(before.life, 2, Progress(0.5)) is None
    assert life.progressed(job(State.READY).life, 0, Progress(0.5)) is None


def test_a_lost_worker_gives_the_attempt_back_until_the_job_is_poison() -> None:
    before = job(State.RUNNING)
    again = life.reap(before, NOW + LEASE)
    assert again is not None
    assert (again.attempt, again.lost_count, again.fence, again.state) == (0, 1, 2, State.READY)
    suspect = before.with_life(evolve(before.life, lost_count=2))
    assert life.fragile(SPEC, 2)
    assert not life.fragile(SPEC, 1)
    assert not life.fragile(evolve(SPEC, max_lost=1), 0)
    poison = life.reap(suspect, NOW + LEASE)
    assert poison is not None
    assert poison.end is not None
    assert (poison.state, poison.end.cause) == (State.FAILED, "poison")


def test_a_silence_of_maintenance_is_a_jump_after_three_leases_and_ten_seconds() -> None:
    assert not life.jumped(0, NOW, LEASE)
    assert not life.jumped(NOW, NOW + 90 * SECOND, LEASE)
    assert life.jumped(NOW, NOW + 90 * SECOND + 1, LEASE)
    assert not life.jumped(NOW, NOW + 10 * SECOND, 1)
    assert life.jumped(NOW, NOW + 10 * SECOND + 1, 1)


def test_the_floor_moves_in_steps_that_are_no_jump() -> None:
    assert life.floored(0, NOW) == NOW
    assert life.floored(NOW, NOW + life.FLOOR_STEP_US - 1) == NOW
    assert life.floored(NOW, NOW + life.FLOOR_STEP_US) == NOW + life.FLOOR_STEP_US
    assert not life.jumped(NOW, NOW + life.FLOOR_STEP_US, 1)


# --- what operators and clients change ----------------------------------------------------------------------------


def test_a_revived_job_has_fresh_attempts_and_no_deadline() -> None:
    dead = job(State.FAILED)
    alive = life.revive(dead, "me", NOW + 9)
    assert alive is not None
    assert (alive.life.attempt, alive.life.fence, alive.expires_at, alive.life.run_at) == (0, 2, None, NOW + 9)
    assert (alive.life.history[-1].verb, alive.life.history[-1].member) == (Verb.REVIVE, "me")
    assert alive.life.settled == dead.life.settled
    assert life.revive(job(State.SUCCEEDED), "me", NOW) is None


def test_a_revived_job_has_all_of_its_time_again() -> None:
    """Its age counts from the revival, or a policy with max_elapsed would end it at its first failure."""
    alive = life.revive(job(State.FAILED), "me", NOW + HOUR)
    assert alive is not None
    assert alive.due_at == NOW + HOUR
    policy = Retry(9, max_elapsed="10s")
    assert next_delay(policy, BOOM, 1, NOW + HOUR + SECOND - alive.due_at, 0.5) is not None


def test_a_change_of_priority_leaves_the_due_time() -> None:
    before = job(State.SCHEDULED)
    after = life.changed(before, 7, None, NOW)
    assert after is not None
    assert (after.spec.priority, after.life) == (7, before.life)
    assert life.changed(job(State.READY), None, 0, NOW + 2).life.run_at == NOW + 2  # type: ignore[union-attr]
    assert life.changed(before, None, 0, NOW).state is State.READY  # type: ignore[union-attr]
    assert life.changed(job(State.RUNNING), 7, None, NOW) is None


def test_a_replacement_keeps_the_id_the_seq_and_the_window() -> None:
    before = job(State.READY, evolve(SPEC, unique=UniqueKey("k", None, 60)))
    other = Spec("other", "task", "elsewhere", b"2", delay_us=9)
    after = life.replaced(before, other, NOW + 1)
    assert after is not None
    assert (after.id, after.seq, after.created_at, after.expires_at) == ("id", 1, NOW, None)
    assert (after.spec.queue, after.spec.payload, after.state, after.due_at) == (
        "elsewhere",
        b"2",
        State.SCHEDULED,
        NOW + 10,
    )
    waiting = job(State.RUNNING)
    again = settled(waiting, Verb.RETRY)
    assert life.replaced(waiting.with_life(again), other, NOW) is None
    for state in State:
        assert (life.replaced(job(state), other, NOW) is not None) == (state in UNSTARTED)


def test_only_what_has_not_started_expires() -> None:
    assert life.expire(job(State.RUNNING), NOW + HOUR) is None
    assert life.expire(job(State.READY), NOW + HOUR - 1) is None
    assert life.expire(job(State.READY, evolve(SPEC, expires_in_us=None)), NOW + HOUR) is None


# --- results, retention, keys -------------------------------------------------------------------------------------


def test_a_result_is_dropped_at_its_ttl_and_says_so() -> None:
    done = job(State.SUCCEEDED)
    at = life.drop_at(done)
    assert at == NOW + SPEC.result_ttl_us
    assert life.drop_result(done, at - 1) is None
    dropped = life.drop_result(done, at)
    assert dropped is not None
    assert dropped.end is not None
    assert (dropped.end.result, dropped.end.result_dropped) == (None, "ttl")
    assert life.drop_at(done.with_life(dropped)) is None
    assert life.drop_result(job(State.READY), at) is None


def test_a_row_stays_for_its_retention_its_result_and_its_window() -> None:
    short = evolve(SPEC, retention_us=5, retention_failed_us=7, result_ttl_us=3)
    assert life.prune_at(job(State.READY, short)) is None
    assert life.prune_at(job(State.SUCCEEDED, short)) == NOW + 5
    assert life.prune_at(job(State.FAILED, short)) == NOW + 7
    assert life.prune_at(job(State.LOST, short)) == NOW + LEASE + 7
    assert life.prune_at(job(State.SUCCEEDED, evolve(short, result_ttl_us=9))) == NOW + 9
    assert life.prune_at(job(State.SUCCEEDED, evolve(short, unique=UniqueKey("k", None, 60)))) == NOW + 60


@pytest.mark.parametrize(
    ("key", "holding"),
    [
        (None, ()),
        (UniqueKey("k"), (State.SCHEDULED, State.READY, State.RUNNING)),
        (UniqueKey("k", "started"), (State.SCHEDULED, State.READY)),
        (UniqueKey("k", None, HOUR), tuple(State)),
    ],
)
def test_a_key_is_held_in_its_scope(key: UniqueKey | None, holding: tuple[State, ...]) -> None:
    spec = evolve(SPEC, unique=key)
    assert tuple(state for state in State if life.holds_key(job(state, spec), NOW)) == holding
    assert key is None or key.until or not life.holds_key(job(State.READY, spec), NOW + HOUR)


def test_a_key_until_the_start_is_not_retaken_by_a_retry() -> None:
    spec = evolve(SPEC, unique=UniqueKey("k", "started"))
    before = job(State.RUNNING, spec)
    assert not life.holds_key(before.with_life(settled(before, Verb.RETRY)), NOW)


def test_an_absolute_instant_beats_the_clock() -> None:
    assert life.born(evolve(SPEC, at=NOW + 1), 1, NOW).state is State.SCHEDULED
    early = life.born(evolve(SPEC, at=3), 1, NOW)
    assert (early.state, early.life.run_at, early.due_at) == (State.READY, 3, 3)
