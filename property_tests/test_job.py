"""One job through every step of its life: the table, the budgets and the audit trail hold on any path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from taskweave.core import life as lives
from taskweave.core.ids import Micros
from taskweave.core.job import NEXT, TERMINAL, UNSTARTED, Job, Life, Spec, State, Verb
from taskweave.core.verbs import Change, Settlement

LEASE_US = 1_000
WALK = settings(max_examples=200, stateful_step_count=40, derandomize=True, deadline=None)
HUNT = settings(WALK, phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

AGAIN = (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE)
ENDS = [*AGAIN, *AGAIN, Verb.FAIL, Verb.CANCEL, Verb.SUCCEED]
PAIRS = {(state, after) for (state, _), after in NEXT.items()}
PAIRS |= {(state, State.READY) for state, after in PAIRS if after is State.SCHEDULED}  # promoted in the same step


class JobWalk(RuleBasedStateMachine):
    """Every step is judged by the two values before and after it."""

    @initialize(
        attempts=st.integers(1, 3),
        lost=st.integers(1, 3),
        once=st.sampled_from([False, False, False, True]),
        delay=st.sampled_from([0, 300]),
        expires=st.sampled_from([None, None, 2_500]),
    )
    def is_born(self, attempts: int, lost: int, once: bool, delay: int, expires: int | None) -> None:
        attempts = 1 if once else attempts
        spec = Spec("id", "t", "q", b"", max_attempts=attempts, max_lost=lost, at_most_once=once, delay_us=delay)
        self.now: Micros = 10_000
        self.job = lives.born(evolve(spec, expires_in_us=expires), 1, self.now)
        self.starts = self.excused = 0  # since it was born or revived
        self.last: Settlement | None = None

    def goes(self, after: Life | None) -> Life | None:
        """Take the step, and look at what it did."""
        before = self.job.life
        if after is None or after is before:
            return None
        if after.state is not before.state:
            assert (before.state, after.state) in PAIRS, f"{before.state} -> {after.state} is not in the table"
        left = before.state is State.RUNNING and after.state is not State.RUNNING
        grew = (after.state is State.RUNNING and not before.hold) or (left and after.state not in TERMINAL)
        revived = before.state in TERMINAL and after.state not in TERMINAL
        assert after.fence == before.fence + (grew or revived), f"fence {before.fence} -> {after.fence}"
        assert len(after.history) <= lives.HISTORY_MAX
        recorded = [entry.fence for entry in after.history[-1:]]
        assert not left or after.state is State.SUCCEEDED or recorded == [before.fence], "no record of a start"
        self.job = self.job.with_life(after)
        return after

    @rule(span=st.sampled_from([1, 300, LEASE_US]))
    def time_passes(self, span: int) -> None:
        self.now += span

    @rule()
    def is_promoted(self) -> None:
        due = self.job.state is State.SCHEDULED and self.job.life.run_at <= self.now
        assert (self.goes(lives.promote(self.job.life, self.now)) is not None) == due

    @rule()
    def is_claimed(self) -> None:
        self.is_promoted()
        if self.job.state is not State.READY:
            return
        attempt = self.job.life.attempt
        after = self.goes(lives.claim(self.job.life, "m", "c", self.now, LEASE_US))
        assert after is not None
        assert after.hold is not None
        assert (after.attempt, after.hold.lease_until) == (attempt + 1, self.now + LEASE_US)
        self.starts += 1

    @rule(verb=st.sampled_from(ENDS), delay=st.sampled_from([0, 0, 300]), unfit=st.booleans())
    def is_settled(self, verb: Verb, delay: int, unfit: bool) -> None:
        if self.job.state is not State.RUNNING:
            self.is_claimed()
        before = self.job.life
        end = Settlement("id", before.fence, verb, delay_us=delay, unfit=unfit)
        after = self.goes(lives.settle(self.job, end, self.now))
        if before.hold is None:
            assert after is None, "settled what does not run"
            return
        assert after is not None
        self.last = end
        assert after.settled is not None
        assert after.settled.fence == before.fence
        self.excused += verb in (Verb.SNOOZE, Verb.RELEASE)
        if verb not in AGAIN:
            assert after.state is NEXT[State.RUNNING, verb]
        elif before.hold.cancel is not None:
            assert after.state is State.CANCELLED, "I23: a cancelled job ran on"
        elif after.state not in TERMINAL:
            assert after.attempt == before.attempt - (verb is not Verb.RETRY), "an attempt is spent by a retry alone"
            assert after.run_at == (before.run_at if verb is Verb.RELEASE and not delay else self.now + delay)
            assert after.state is (State.READY if after.run_at <= self.now else State.SCHEDULED)

    @rule()
    def is_settled_again(self) -> None:
        """A resend is the identity, or refused, whatever came between."""
        if self.last is not None and (self.job.life.hold is None or self.last.fence != self.job.life.fence):
            after = lives.settle(self.job, self.last, self.now)
            assert after is None or after is self.job.life
            token = self.job.life.settled
            assert (after is not None) == (token is not None and token.fence == self.last.fence)

    @rule(fence=st.sampled_from([None, None, 0, 1, 2]), at_end=st.booleans())
    def is_renewed(self, fence: int | None, at_end: bool) -> None:
        hold = self.job.life.hold
        fence = self.job.life.fence if fence is None else fence
        self.now = max(self.now, hold.lease_until) if at_end and hold is not None else self.now
        alive = hold is not None and fence == self.job.life.fence and self.now < hold.lease_until
        assert (self.goes(lives.renew(self.job.life, fence, self.now, LEASE_US)) is not None) == alive

    @rule(passes=st.booleans())
    def is_reaped(self, passes: bool) -> None:
        self.now += passes * LEASE_US
        before = self.job.life
        over = before.hold is not None and self.now >= before.hold.lease_until
        after = self.goes(lives.reap(self.job, self.now))
        assert (after is not None) == over
        if after is not None:
            assert after.lost_count == before.lost_count + 1, "I22: a lost worker was not counted"
            assert after.state in TERMINAL or after.attempt == before.attempt - 1, "the worker failed, not the task"
            assert (after.state is State.LOST) == (self.job.spec.at_most_once and after.state is not State.CANCELLED)

    @rule()
    def is_cancelled(self) -> None:
        before = self.job.state
        change, after = lives.cancel(self.job.life, "stop", self.now)
        self.goes(after)
        expected = Change.REFUSED if before in TERMINAL else Change.DONE if before in UNSTARTED else Change.REQUESTED
        assert change is expected
        assert change is not Change.DONE or self.job.state is State.CANCELLED

    @rule()
    def expires(self) -> None:
        at = self.job.expires_at
        late = self.job.state in UNSTARTED and at is not None and self.now >= at
        assert (self.goes(lives.expire(self.job, self.now)) is not None) == late

    @rule()
    def is_revived(self) -> None:
        job = lives.revive(self.job, "me", self.now)
        assert (job is not None) == (self.job.finished and self.job.state is not State.SUCCEEDED)
        if job is not None:
            self.goes(job.life)
            self.job = job
            self.starts = self.excused = 0

    @rule(delay=st.none() | st.sampled_from([0, 300]), priority=st.none() | st.integers(-1, 1))
    def is_changed(self, delay: int | None, priority: int | None) -> None:
        job = lives.changed(self.job, priority, delay, self.now)
        assert (job is not None) == (self.job.state in UNSTARTED)
        if job is not None:
            assert job.life.fence == self.job.life.fence
            self.job = job

    @invariant()
    def budgets_and_shape_hold(self) -> None:
        if not hasattr(self, "job"):
            return
        life, spec = self.job.life, self.job.spec
        assert (life.hold is not None) == (life.state is State.RUNNING)
        assert (life.end is not None) == (life.state in TERMINAL)
        assert 0 <= life.attempt <= spec.max_attempts, "I22"
        assert life.lost_count <= spec.max_lost, "I22"
        assert self.starts <= spec.max_attempts + spec.max_lost + self.excused, "I22"
        assert not spec.at_most_once or self.starts <= 1, "I6"
        assert life.state is not State.LOST or spec.at_most_once
        assert life.end is None or life.end.cause != "poison" or life.lost_count == spec.max_lost


def test_any_path_through_a_life_is_lawful() -> None:
    run_state_machine_as_test(JobWalk, settings=WALK)


# --- planted bugs -------------------------------------------------------------------------------------------------


def planted(patch: pytest.MonkeyPatch, name: str, change: Callable[[Life, Job], Life]) -> None:
    """The step `name` as it is, and then changed."""
    real = getattr(lives, name)

    def step(job: Job, *rest: object) -> Life | None:
        after = real(job, *rest)
        return after if after is None or after is job.life else change(after, job)

    patch.setattr(lives, name, step)


def retries_without_a_budget(patch: pytest.MonkeyPatch) -> None:
    real = lives.verdict
    patch.setattr(lives, "verdict", lambda spec, attempt, *rest: real(spec, 0, *rest))


def releases_cost_an_attempt(patch: pytest.MonkeyPatch) -> None:
    planted(patch, "settle", lambda after, job: after if after.end else evolve(after, attempt=job.life.attempt))


def reaps_under_the_old_fence(patch: pytest.MonkeyPatch) -> None:
    planted(patch, "reap", lambda after, job: evolve(after, fence=job.life.fence))


def counts_no_lost_worker(patch: pytest.MonkeyPatch) -> None:
    planted(patch, "reap", lambda after, job: evolve(after, lost_count=job.life.lost_count))


def leaves_no_record(patch: pytest.MonkeyPatch) -> None:
    planted(patch, "settle", lambda after, job: evolve(after, history=job.life.history))


def forgets_the_token(patch: pytest.MonkeyPatch) -> None:
    planted(patch, "settle", lambda after, job: evolve(after, settled=job.life.settled))


def forgets_a_cancellation(patch: pytest.MonkeyPatch) -> None:
    real = lives.verdict
    patch.setattr(lives, "verdict", lambda spec, attempt, unfit, cancel, end: real(spec, attempt, unfit, None, end))


def delivers_twice(patch: pytest.MonkeyPatch) -> None:
    real = lives.verdict
    patch.setattr(lives, "verdict", lambda spec, *rest: real(evolve(spec, at_most_once=False), *rest))


def revives_what_succeeded(patch: pytest.MonkeyPatch) -> None:
    real = lives.revive

    def revive(job: Job, by: str, now: Micros) -> Job | None:
        done = job.state is State.SUCCEEDED
        return real(job.with_life(evolve(job.life, state=State.FAILED)) if done else job, by, now)

    patch.setattr(lives, "revive", revive)


def renews_at_the_last_instant(patch: pytest.MonkeyPatch) -> None:
    real = lives.renew
    patch.setattr(lives, "renew", lambda life, fence, now, lease_us: real(life, fence, now - 1, lease_us + 1))


@pytest.mark.parametrize(
    "plant",
    [
        retries_without_a_budget,
        releases_cost_an_attempt,
        reaps_under_the_old_fence,
        counts_no_lost_worker,
        leaves_no_record,
        forgets_the_token,
        forgets_a_cancellation,
        delivers_twice,
        revives_what_succeeded,
        renews_at_the_last_instant,
    ],
)
def test_planted_bugs_are_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(JobWalk, settings=HUNT)
