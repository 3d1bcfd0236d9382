"""I21: the breaker against a reference that keeps everything it was ever told."""

from __future__ import annotations

import pytest
from attrs import define, evolve
from hypothesis import Phase as Part
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskweave.core import breaker as breaker_module
from taskweave.core.breaker import Breaker, BreakerState, Phase
from taskweave.core.ids import Micros

WALK = settings(max_examples=200, stateful_step_count=50, derandomize=True, deadline=None)
HUNT = settings(WALK, phases=[Part.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)
WINDOW, COOLDOWN, LEASE = 100, 50, 30
NEXT = {
    (Phase.CLOSED, Phase.OPEN),
    (Phase.OPEN, Phase.HALF_OPEN),
    (Phase.HALF_OPEN, Phase.CLOSED),
    (Phase.HALF_OPEN, Phase.OPEN),
}


@define
class Start:
    epoch: int  # how often the breaker had changed when it was admitted
    lease_until: Micros | None = None  # of a probe
    reported: bool = False


class Reference:
    """What the words say, with no thought of size: every start and every failure is kept."""

    def __init__(self, policy: Breaker) -> None:
        self.policy, self.phase, self.epoch, self.changed_at = policy, Phase.CLOSED, 0, 0
        self.failures: list[Micros] = []
        self.results: list[bool] = []
        self.starts: list[Start] = []

    def change(self, phase: Phase, now: Micros) -> None:
        self.phase, self.epoch, self.changed_at = phase, self.epoch + 1, now
        self.failures, self.results = [], []

    def live(self, now: Micros) -> list[Start]:
        return [
            start
            for start in self.starts
            if start.epoch == self.epoch
            and start.lease_until is not None
            and now < start.lease_until
            and not start.reported
        ]

    def admit(self, now: Micros) -> Start | None:
        if self.phase is Phase.OPEN and now - self.changed_at >= COOLDOWN:
            self.change(Phase.HALF_OPEN, now)
        if self.phase is Phase.OPEN:
            return None
        start = Start(self.epoch)
        if self.phase is Phase.HALF_OPEN:
            if len(self.live(now)) + len(self.results) >= self.policy.probes:
                return None
            start.lease_until = now + LEASE
        self.starts.append(start)
        return start

    def record(self, start: Start, ok: bool, now: Micros) -> None:
        if start.epoch != self.epoch:
            return
        if self.phase is Phase.CLOSED and not ok:
            self.failures.append(now)
            if sum(now - at < WINDOW for at in self.failures) >= self.policy.failures:
                self.change(Phase.OPEN, now)
        elif self.phase is Phase.HALF_OPEN and start in self.live(now):
            start.reported = True
            self.results.append(ok)
            if len(self.results) == self.policy.probes:
                good = sum(self.results) / len(self.results) >= self.policy.success_ratio
                self.change(Phase.CLOSED if good else Phase.OPEN, now)


class Walk(RuleBasedStateMachine):
    breaker_type: type[Breaker] = Breaker

    @initialize(failures=st.integers(1, 4), probes=st.integers(1, 4), ratio=st.sampled_from([0.25, 0.5, 0.75, 1]))
    def begin(self, failures: int, probes: int, ratio: float) -> None:
        self.policy = self.breaker_type(
            "b",
            failures=failures,
            probes=probes,
            success_ratio=ratio,
            window=f"{WINDOW}us",
            cooldown=f"{COOLDOWN}us",
            probe_lease=f"{LEASE}us",
        )
        self.reference = Reference(self.policy)
        self.state = BreakerState()
        self.now = 1_000
        self.running: list[tuple[int, Start]] = []

    @rule()
    def start(self) -> None:
        admitted, expected = self.policy.admit(self.state, self.now), self.reference.admit(self.now)
        assert (admitted is None) == (expected is None)
        ready = self.policy.ready_at(self.state, self.now)
        assert (ready > self.now) == (admitted is None)
        if admitted is not None and expected is not None:
            self.took_step(admitted[0])
            self.running.append((admitted[1], expected))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), ok=st.booleans(), again=st.booleans())
    def end(self, data: st.DataObject, ok: bool, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        generation, start = self.running[index]
        probe = start.lease_until is not None
        if not (again and probe):  # a probe's result may come twice
            self.running.pop(index)
        self.took_step(self.policy.record(self.state, ok, generation, self.now))
        self.reference.record(start, ok, self.now)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        generation, start = data.draw(st.sampled_from(self.running))
        self.took_step(self.policy.renew(self.state, generation, self.now))
        if self.reference.phase is Phase.HALF_OPEN and any(start is each for each in self.reference.live(self.now)):
            start.lease_until = self.now + LEASE

    @rule(by=st.sampled_from([1, 10, LEASE, COOLDOWN, WINDOW - 1, WINDOW]))
    def time_passes(self, by: Micros) -> None:
        self.now += by

    @rule()
    def sleep_until_ready(self) -> None:
        self.now = self.policy.ready_at(self.state, self.now)
        assert self.policy.admit(self.state, self.now) is not None

    def took_step(self, after: BreakerState) -> None:
        before, self.state = self.state, after
        if before.phase is not after.phase:
            assert (before.phase, after.phase) in NEXT
            assert after.generation > before.generation

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "state"):
            return
        assert self.state.phase is self.reference.phase
        assert len(self.state.failed_at) < self.policy.failures
        assert len(self.state.probes) <= self.policy.probes
        live = [probe for probe in self.state.probes if self.now < probe.until]
        assert len(live) == len(self.reference.live(self.now)) <= self.policy.probes


def test_i21_the_breaker_agrees_with_its_reference() -> None:
    run_state_machine_as_test(Walk, settings=WALK)


class CountsStaleResults(Breaker):
    def record(self, state: BreakerState, ok: bool, generation: int, now: Micros) -> BreakerState:
        current = state.probes[0].generation if state.probes else state.generation
        return super().record(state, ok, current, now)


class AdmitsOneProbeTooMany(Breaker):
    def admit(self, state: BreakerState, now: Micros) -> tuple[BreakerState, int] | None:
        if state.phase is Phase.HALF_OPEN and len(state.probes) == self.probes:
            return super().admit(evolve(state, probes=state.probes[1:]), now)
        return super().admit(state, now)


class NeverForgets(Breaker):
    def record(self, state: BreakerState, ok: bool, generation: int, now: Micros) -> BreakerState:
        recent = tuple(max(at, now - 1) for at in state.failed_at)
        return super().record(evolve(state, failed_at=recent), ok, generation, now)


class OpensTooSoonAgain(Breaker):
    def admit(self, state: BreakerState, now: Micros) -> tuple[BreakerState, int] | None:
        return super().admit(state, now + 1)


class KeepsVanishedProbes(Breaker):
    def admit(self, state: BreakerState, now: Micros) -> tuple[BreakerState, int] | None:
        if state.phase is Phase.HALF_OPEN and len(state.probes) + state.succeeded + state.failed >= self.probes:
            return None
        return super().admit(state, now)


class ClosesAtTheFirstSuccess(Breaker):
    def record(self, state: BreakerState, ok: bool, generation: int, now: Micros) -> BreakerState:
        after = super().record(state, ok, generation, now)
        if after.phase is Phase.HALF_OPEN and after.succeeded:
            return breaker_module._changed(after, Phase.CLOSED, now)
        return after


class CountsARepeatTwice(Breaker):
    def record(self, state: BreakerState, ok: bool, generation: int, now: Micros) -> BreakerState:
        after = super().record(state, ok, generation, now)
        if after.phase is Phase.HALF_OPEN and after is not state and after.probes != state.probes:
            return evolve(after, probes=state.probes)
        return after


@pytest.mark.parametrize(
    "bug",
    [
        CountsStaleResults,
        AdmitsOneProbeTooMany,
        NeverForgets,
        OpensTooSoonAgain,
        KeepsVanishedProbes,
        ClosesAtTheFirstSuccess,
        CountsARepeatTwice,
    ],
)
def test_planted_bugs_are_found(bug: type[Breaker]) -> None:
    broken = type(f"{bug.__name__}Walk", (Walk,), {"breaker_type": bug})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=HUNT)
