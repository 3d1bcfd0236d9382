"""Retry against its definition in exact arithmetic, and a job that fails its way through a policy."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from attrs import evolve, frozen
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskweave.core import retry
from taskweave.core.bounds import ATTEMPTS_MAX
from taskweave.core.ids import DAY, SECOND, Micros
from taskweave.core.job import Failure
from taskweave.core.retry import Retry, Strategy, kinds

CLASSES: tuple[type[BaseException], ...] = (
    BaseException,
    Exception,
    OSError,
    ConnectionError,
    ConnectionResetError,
    TimeoutError,
    ValueError,
    UnicodeError,
    KeyboardInterrupt,
)
HUNT = settings(phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

classes = st.sampled_from(CLASSES)
jitters = st.integers(0, 2**53 - 1).map(lambda n: n / 2**53)
spans = st.one_of(st.integers(1, 20), st.integers(1, 100 * SECOND), st.integers(1, 3_660 * DAY))


@frozen
class Wanted:
    """What a user wrote, kept as it was written."""

    strategy: Strategy
    attempts: int
    base: Micros
    cap: Micros
    factor: float
    jitter: bool
    max_elapsed: Micros | None
    on: tuple[type[BaseException], ...]
    never: tuple[type[BaseException], ...]
    rules: tuple[tuple[type[BaseException], Retry | None], ...]

    def built(self) -> Retry:
        return Retry(
            self.attempts,
            base=f"{self.base}us",
            cap=f"{self.cap}us",
            factor=self.factor,
            strategy=self.strategy,
            max_elapsed=None if self.max_elapsed is None else f"{self.max_elapsed}us",
            jitter=self.jitter,
            on=self.on,
            never=self.never,
            rules=self.rules,
        )


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    strategy: Strategy = draw(st.sampled_from(("exponential", "fixed", "linear", "decorrelated")))
    base, cap = sorted((draw(spans), draw(spans)))
    rule_policies = st.one_of(
        st.none(), st.builds(lambda d, n: Retry.fixed(d, attempts=n), st.integers(0, 9), st.integers(1, 9))
    )
    return Wanted(
        strategy,
        draw(st.one_of(st.integers(1, 12), st.integers(1, ATTEMPTS_MAX))),
        base,
        cap,
        draw(st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.floats(1, 1_000), st.floats(1, 1.01))),
        strategy == "decorrelated" or draw(st.booleans()),
        draw(st.one_of(st.none(), spans)),
        tuple(draw(st.lists(classes, max_size=3))) or (Exception,),
        tuple(draw(st.lists(classes, max_size=1))),
        tuple(draw(st.lists(st.tuples(classes, rule_policies), max_size=4))),
    )


DELAYS = given(wanted(), st.data(), jitters)
DECISIONS = given(wanted(), classes, st.integers(1, 12), spans, jitters, st.one_of(st.none(), st.integers(1, 12)))


def range_of(want: Wanted, attempt: int) -> tuple[Fraction, Fraction]:
    """The least and the most that may be waited after this attempt, in exact arithmetic."""
    base, cap = Fraction(want.base), Fraction(want.cap)
    match want.strategy:
        case "fixed":
            most = base
        case "linear":
            most = min(cap, base * attempt)
        case "exponential":
            most = _grown(base, cap, Fraction(want.factor), attempt - 1)
        case "decorrelated":
            return base, _grown(base, cap, Fraction(3), attempt)
    return (Fraction(0) if want.jitter else most), most


def _grown(base: Fraction, cap: Fraction, factor: Fraction, times: int) -> Fraction:
    if factor - 1 < Fraction(1, 1000):  # too slow to multiply out: the exact value lies between these by Bernoulli
        return min(cap, Fraction(float(base) * (1 + float(factor - 1)) ** times))
    value = base
    while times and value < cap:
        value, times = value * factor, times - 1
    return min(value, cap)


def delays_follow_the_definition(want: Wanted, data: st.DataObject, jitter: float) -> None:
    policy = want.built()
    attempt = data.draw(st.one_of(st.integers(1, 8), st.integers(1, ATTEMPTS_MAX)))
    least, most = range_of(want, attempt)
    exact = least + (most - least) * Fraction(jitter) if want.jitter else most
    slack = 1 + most / 10**9
    delay = policy.delay_us(attempt, jitter)
    assert isinstance(delay, int)
    assert abs(delay - exact) <= slack
    assert 0 <= delay <= max(want.cap, want.base)


def retried_exactly_when_it_may_be(
    want: Wanted, error: type[BaseException], attempt: int, age: Micros, jitter: float, row: int | None
) -> None:
    policy = want.built()
    delay = retry.next_delay(policy, Failure("E", "", kinds=kinds(error)), attempt, age, jitter, row)
    chosen = reference_choice(want, policy, error)
    if chosen is None or attempt >= (want.attempts if row is None else row):
        assert delay is None
        return
    pause = chosen.delay_us(attempt, jitter)
    late = want.max_elapsed is not None and age + pause > want.max_elapsed
    spent = chosen is not policy and attempt >= chosen.attempts
    assert delay == (None if late or spent else pause)


def reference_choice(want: Wanted, policy: Retry, error: type[BaseException]) -> Retry | None:
    """The same decision by the classes themselves, which the policy never sees."""
    if issubclass(error, want.never):
        return None
    for cls, other in want.rules:
        if issubclass(error, cls):
            return other
    return policy if issubclass(error, want.on) else None


class FailingJob(RuleBasedStateMachine):
    """One job: it starts, fails, is snoozed, loses its worker. The policy alone says whether it goes on."""

    @initialize(want=wanted(), row=st.one_of(st.none(), st.integers(1, 6)))
    def begin(self, want: Wanted, row: int | None) -> None:
        want = evolve(want, attempts=min(want.attempts, 12))
        self.want, self.policy, self.row = want, want.built(), row
        self.now = self.attempt = self.spent = 0
        self.due: Micros | None = 0

    @precondition(lambda self: self.due is not None)
    @rule(error=classes, ran=st.integers(0, 5 * SECOND), jitter=jitters)
    def fail(self, error: type[BaseException], ran: Micros, jitter: float) -> None:
        assert self.due is not None
        self.now = max(self.now, self.due)
        self.attempt += 1
        self.spent += 1
        self.now += ran
        delay = retry.next_delay(
            self.policy, Failure("E", "", kinds=kinds(error)), self.attempt, self.now, jitter, self.row
        )
        assert delay is None or reference_choice(self.want, self.policy, error) is not None
        self.due = None if delay is None else self.now + delay

    @precondition(lambda self: self.due is not None)
    @rule(late=st.integers(0, 5 * SECOND))
    def lose_the_worker(self, late: Micros) -> None:
        assert self.due is not None
        self.now = self.due = max(self.now, self.due) + late

    @precondition(lambda self: self.due is None)
    @rule()
    def revive(self) -> None:
        self.now = self.attempt = self.spent = self.due = 0

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "want"):
            return
        most = self.want.attempts if self.row is None else self.row
        assert self.spent <= most
        if self.due is not None and self.due > self.now and self.want.max_elapsed is not None:
            assert self.due <= self.want.max_elapsed


def test_delays_follow_the_definition() -> None:
    DELAYS(delays_follow_the_definition)()


def test_retried_exactly_when_it_may_be() -> None:
    DECISIONS(retried_exactly_when_it_may_be)()


def test_a_job_never_outlives_its_policy() -> None:
    run_state_machine_as_test(FailingJob, settings=settings(max_examples=200, stateful_step_count=15))


right_delay, right_allows, right_judged = Retry.delay_us, Retry.allows, retry._judged


def _no_cap(self: Retry, attempt: int, jitter: float) -> Micros:
    return right_delay(self, attempt, jitter) if self.strategy != "linear" else self.base_us * attempt


def _one_exponent_too_many(self: Retry, attempt: int, jitter: float) -> Micros:
    return right_delay(self, attempt + 1, jitter)


def _equal_jitter(self: Retry, attempt: int, jitter: float) -> Micros:
    return right_delay(self, attempt, 0.5 + jitter / 2)


def _capped_too_early(self: Retry, attempt: int, jitter: float) -> Micros:
    return right_delay(self, attempt if attempt < self.capped_from - 3 else 10_000, jitter)


@pytest.mark.parametrize("bug", [_no_cap, _one_exponent_too_many, _equal_jitter, _capped_too_early])
def test_planted_bugs_in_the_delay_are_found(monkeypatch: pytest.MonkeyPatch, bug: Callable[..., Micros]) -> None:
    monkeypatch.setattr(Retry, "delay_us", bug)
    with pytest.raises(AssertionError):
        HUNT(DELAYS(delays_follow_the_definition))()


def _one_attempt_too_many(
    self: Retry, attempt: int, age_us: Micros, max_attempts: int | None = None, delay_us: Micros = 0
) -> bool:
    return right_allows(self, attempt - 1, age_us, max_attempts, delay_us)


def _registry_beats_the_row(
    self: Retry, attempt: int, age_us: Micros, max_attempts: int | None = None, delay_us: Micros = 0
) -> bool:
    return right_allows(self, attempt, age_us, None, delay_us)


def _elapsed_without_the_delay(
    self: Retry, attempt: int, age_us: Micros, max_attempts: int | None = None, delay_us: Micros = 0
) -> bool:
    return right_allows(self, attempt, age_us, max_attempts)


ALLOWS = [_one_attempt_too_many, _registry_beats_the_row, _elapsed_without_the_delay]


@pytest.mark.parametrize("bug", ALLOWS)
def test_planted_bugs_in_the_bounds_are_found(monkeypatch: pytest.MonkeyPatch, bug: Callable[..., bool]) -> None:
    monkeypatch.setattr(Retry, "allows", bug)
    with pytest.raises(AssertionError):
        HUNT(DECISIONS(retried_exactly_when_it_may_be))()


@pytest.mark.parametrize("bug", ALLOWS)
def test_planted_bugs_in_the_bounds_are_found_by_the_machine(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[..., bool]
) -> None:
    monkeypatch.setattr(Retry, "allows", bug)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(FailingJob, settings=settings(HUNT, stateful_step_count=15))


def _ignores_never(policy: Retry, failure: Failure | None) -> Retry | None:
    assert failure is not None
    for each in policy.rules:
        if each.kind in failure.kinds:
            return each.retry
    return None if policy.on.isdisjoint(failure.kinds) else policy


def _last_rule_wins(policy: Retry, failure: Failure | None) -> Retry | None:
    assert failure is not None
    if not policy.never.isdisjoint(failure.kinds):
        return None
    for each in reversed(policy.rules):
        if each.kind in failure.kinds:
            return each.retry
    return None if policy.on.isdisjoint(failure.kinds) else policy


def _exact_class_only(policy: Retry, failure: Failure | None) -> Retry | None:
    assert failure is not None
    return right_judged(policy, Failure("E", "", kinds=failure.kinds[:1]))


@pytest.mark.parametrize("bug", [_ignores_never, _last_rule_wins, _exact_class_only])
def test_planted_bugs_in_the_choice_are_found(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[..., Retry | None]
) -> None:
    monkeypatch.setattr(retry, "_judged", bug)
    with pytest.raises(AssertionError):
        HUNT(DECISIONS(retried_exactly_when_it_may_be))()
