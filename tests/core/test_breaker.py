"""The breaker, edge by edge."""

from __future__ import annotations

import json

import pytest
from attrs import asdict, evolve
from cattrs import structure

from taskweave.core.breaker import Breaker, BreakerState, Phase
from taskweave.core.ids import MINUTE, SECOND
from taskweave.exceptions import InvalidInput, InvalidName, InvalidValue

SMTP = Breaker("smtp", failures=3, window="1m", cooldown="30s", probes=3, success_ratio=0.5, probe_lease="10s")


def failing(policy: Breaker, state: BreakerState, *instants: int) -> BreakerState:
    for now in instants:
        admitted = policy.admit(state, now)
        assert admitted is not None
        state = policy.record(admitted[0], False, admitted[1], now)
    return state


def half_open(now: int = 32 * SECOND) -> tuple[BreakerState, list[int]]:
    """A breaker with all its probes under way."""
    state = failing(SMTP, BreakerState(), 0, SECOND, 2 * SECOND)
    generations: list[int] = []
    for _ in range(SMTP.probes):
        admitted = SMTP.admit(state, now)
        assert admitted is not None
        state = admitted[0]
        generations.append(admitted[1])
    return state, generations


class TestClosed:
    def test_admits_everything_and_stays_as_it_is(self) -> None:
        state = BreakerState()
        assert SMTP.admit(state, 5) == (state, 0)
        assert SMTP.record(state, True, 0, 5) is state
        assert SMTP.ready_at(state, 5) == 5

    def test_opens_at_the_last_failure_within_the_window(self) -> None:
        state = failing(SMTP, BreakerState(), 0, SECOND)
        assert state.phase is Phase.CLOSED
        assert failing(SMTP, state, 2 * SECOND).phase is Phase.OPEN
        assert failing(SMTP, state, MINUTE - 1).phase is Phase.OPEN

    def test_forgets_failures_that_left_the_window(self) -> None:
        state = failing(SMTP, BreakerState(), 0, SECOND, MINUTE)
        assert state.phase is Phase.CLOSED
        assert state.failed_at == (SECOND, MINUTE)

    def test_successes_between_do_not_hide_failures(self) -> None:
        state = failing(SMTP, BreakerState(), 0, 1)
        state = SMTP.record(state, True, state.generation, 2)
        assert failing(SMTP, state, 3).phase is Phase.OPEN


class TestOpen:
    def test_refuses_until_the_cooldown_is_over(self) -> None:
        state = failing(SMTP, BreakerState(), 0, 1, 2)
        assert SMTP.admit(state, 2 + 30 * SECOND - 1) is None
        assert SMTP.ready_at(state, 3) == 2 + 30 * SECOND
        admitted = SMTP.admit(state, 2 + 30 * SECOND)
        assert admitted is not None
        assert admitted[0].phase is Phase.HALF_OPEN

    def test_results_of_starts_before_it_opened_do_not_count(self) -> None:
        state = failing(SMTP, BreakerState(), 0, 1, 2)
        for ok in (True, False):
            for generation in range(5):
                assert SMTP.record(state, ok, generation, 3) is state


class TestHalfOpen:
    def test_admits_exactly_the_probes(self) -> None:
        state, generations = half_open()
        assert len(set(generations)) == 3
        assert SMTP.admit(state, 32 * SECOND) is None
        assert SMTP.ready_at(state, 33 * SECOND) == 42 * SECOND
        state = SMTP.record(state, True, generations[0], 33 * SECOND)
        assert SMTP.admit(state, 33 * SECOND) is None, "a result takes a probe's place for good"

    @pytest.mark.parametrize(
        ("results", "phase"),
        [
            ((True, True, True), Phase.CLOSED),
            ((True, False, True), Phase.CLOSED),
            ((False, True, False), Phase.OPEN),
            ((False, False, False), Phase.OPEN),
        ],
    )
    def test_all_probes_decide(self, results: tuple[bool, ...], phase: Phase) -> None:
        state, generations = half_open()
        for ok, generation in zip(results, generations, strict=True):
            assert state.phase is Phase.HALF_OPEN
            state = SMTP.record(state, ok, generation, 33 * SECOND)
        assert state == BreakerState(phase, generations[-1] + 1, 33 * SECOND)

    def test_the_same_result_twice_counts_once(self) -> None:
        state, generations = half_open()
        once = SMTP.record(state, True, generations[0], 33 * SECOND)
        assert SMTP.record(once, True, generations[0], 33 * SECOND) is once

    def test_a_probe_that_vanished_gives_its_place_back(self) -> None:
        state, generations = half_open()
        assert SMTP.ready_at(state, 42 * SECOND - 1) == 42 * SECOND
        assert SMTP.ready_at(state, 42 * SECOND) == 42 * SECOND
        assert SMTP.admit(state, 42 * SECOND - 1) is None
        admitted = SMTP.admit(state, 42 * SECOND)
        assert admitted is not None
        assert admitted[1] not in generations
        assert SMTP.record(state, False, generations[0], 42 * SECOND) is state, "its late result does not count"

    def test_a_renewed_probe_keeps_its_place(self) -> None:
        state, generations = half_open()
        for generation in generations:
            state = SMTP.renew(state, generation, 40 * SECOND)
        assert SMTP.admit(state, 42 * SECOND) is None
        assert SMTP.renew(state, generations[0], 50 * SECOND) is state
        assert SMTP.renew(state, 10**6, 41 * SECOND) is state
        assert SMTP.record(state, False, generations[0], 49 * SECOND).failed == 1

    def test_a_result_from_before_does_not_count_after_it_closed_again(self) -> None:
        state, generations = half_open()
        for generation in generations:
            state = SMTP.record(state, True, generation, 33 * SECOND)
        assert state.phase is Phase.CLOSED
        for generation in range(state.generation):
            assert SMTP.record(state, False, generation, 34 * SECOND) is state


class TestValue:
    def test_the_state_survives_json(self) -> None:
        for state in (BreakerState(), failing(SMTP, BreakerState(), 1, 2), half_open()[0]):
            assert structure(json.loads(json.dumps(asdict(state))), BreakerState) == state

    def test_the_shape_that_users_write(self) -> None:
        policy = Breaker("smtp", failures=5, cooldown="30s")
        assert (policy.failures, policy.cooldown_us, policy.window_us, policy.probes) == (5, 30 * SECOND, MINUTE, 1)
        assert policy == Breaker("smtp")
        assert hash(policy) == hash(Breaker("smtp"))

    def test_evolve_cannot_scale_its_spans_twice(self) -> None:
        with pytest.raises(TypeError):
            evolve(SMTP, failures=4)

    @pytest.mark.parametrize(
        "bad",
        [
            {"failures": 0},
            {"failures": True},
            {"failures": 2.5},
            {"failures": 10**9},
            {"window": 0},
            {"window": "-1s"},
            {"window": None},
            {"cooldown": 0},
            {"cooldown": float("nan")},
            {"probes": 0},
            {"probes": "1"},
            {"success_ratio": 0},
            {"success_ratio": 1.01},
            {"success_ratio": float("nan")},
            {"success_ratio": True},
            {"success_ratio": "half"},
            {"probe_lease": 0},
        ],
        ids=repr,
    )
    def test_bad_values_are_refused_by_the_name_of_the_field(self, bad: dict[str, object]) -> None:
        with pytest.raises(InvalidValue) as caught:
            Breaker("smtp", **bad)  # type: ignore[arg-type]
        assert caught.value.field == next(iter(bad))

    @pytest.mark.parametrize("name", ["", "a\x00b", "a" * 201, "\ud800", 5, None], ids=ascii)
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(InvalidName) as caught:
            Breaker(name)
        assert isinstance(caught.value, InvalidInput)
        assert caught.value.field == "breaker"
