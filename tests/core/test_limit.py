"""Limits, instant by instant."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import asdict
from cattrs import structure

from taskweave.core.ids import DAY, MINUTE, SECOND
from taskweave.core.limit import (
    BUCKET_STARTS_MAX,
    CONCURRENCY_MAX,
    PER_MAX_US,
    WINDOW_STARTS_MAX,
    Concurrency,
    Debt,
    Holder,
    Limit,
    SlidingWindow,
    TokenBucket,
)
from taskweave.exceptions import InvalidName, InvalidValue

A, B, C = Holder("a", 1, 100), Holder("b", 1, 50), Holder("c", 1, 120)


class TestConcurrency:
    def test_admits_n_and_says_when_a_lease_ends(self) -> None:
        limit = Concurrency(2)
        state, refused = limit.admit((), A, 0)
        assert refused is None
        state, refused = limit.admit(state, B, 0)
        assert (state, refused) == ((A, B), None)
        assert limit.admit(state, C, 0) == ((A, B), 50)

    def test_a_lease_that_ended_frees_its_place(self) -> None:
        assert Concurrency(1).admit((B,), A, 49) == ((B,), 50)
        assert Concurrency(1).admit((B,), A, 50) == ((A,), None)

    def test_a_repeat_takes_no_second_place(self) -> None:
        again = Holder("a", 1, 130)
        assert Concurrency(1).admit((A,), again, 10) == ((again,), None)
        assert Concurrency(1).admit((A,), Holder("a", 2, 130), 10) == ((A,), 100)

    def test_release_and_renew_meet_only_their_own_fence(self) -> None:
        limit = Concurrency(2)
        assert limit.release((A, B), "a", 1, 0) == (B,)
        assert limit.release((A, B), "a", 2, 0) == (A, B)
        assert limit.release((A, B), "c", 1, 60) == (A,)
        longer = Holder("a", 1, 200)
        assert limit.renew((A, B), longer, 0) == (longer, B)
        assert limit.renew((B,), longer, 0) == (B,), "one that lost its place is not let in"
        assert limit.renew((A, B), longer, 100) == ()


class TestSlidingWindow:
    def test_start_k_plus_n_is_a_window_after_start_k(self) -> None:
        limit = SlidingWindow(2, 100)
        state: tuple[int, ...] = ()
        for now in (0, 30):
            state, refused = limit.admit(state, now)
            assert refused is None
        assert limit.admit(state, 99) == ((0, 30), 100)
        state, refused = limit.admit(state, 100)
        assert (state, refused) == ((30, 100), None)
        assert limit.admit(state, 100) == ((30, 100), 130)

    def test_a_clock_that_steps_back_admits_nothing_extra(self) -> None:
        limit = SlidingWindow(1, 100)
        assert limit.admit((1_000,), 500) == ((1_000,), 1_100)
        assert SlidingWindow(2, 100).admit((1_000,), 500) == ((1_000, 1_000), None)

    def test_old_starts_are_not_kept(self) -> None:
        assert SlidingWindow(3, 100).admit((0, 50), 120) == ((50, 120), None)


class TestTokenBucket:
    def test_a_burst_then_the_rate(self) -> None:
        limit = TokenBucket(10, SECOND, 5)
        state, starts, now = Debt(), [], 1_000
        for _ in range(8):
            state, refused = limit.admit(state, now)
            while refused is not None:
                assert refused > now
                now = refused
                state, refused = limit.admit(state, now)
            starts.append(now - 1_000)
        assert starts == [0, 0, 0, 0, 0, 100_000, 200_000, 300_000]

    def test_a_rate_that_does_not_divide_its_span_does_not_drift(self) -> None:
        limit = TokenBucket(7, SECOND, 1)
        state, now, starts = Debt(), 0, 0
        while now < 1_000 * SECOND:
            state, refused = limit.admit(state, now)
            starts += refused is None
            now = now if refused is None else refused
        assert starts == 7_000

    def test_a_clock_that_steps_back_admits_nothing_extra(self) -> None:
        assert TokenBucket(1, 100, 1).admit(Debt(100, 1_000), 500) == (Debt(100, 1_000), 1_100)

    def test_its_state_fits_63_bits(self) -> None:
        limit = TokenBucket(BUCKET_STARTS_MAX, PER_MAX_US, BUCKET_STARTS_MAX)
        full = Debt(limit.burst * limit.per_us, 0)
        assert full.debt < 2**63
        assert limit.admit(full, 0) == (full, -(-limit.per_us // limit.n))


class TestValue:
    def test_the_shapes_that_users_write(self) -> None:
        assert Limit.concurrency(2, key="tenant") == Concurrency(2, "tenant")
        assert Limit.rate(100, "1m", key="tenant") == SlidingWindow(100, MINUTE, "tenant")
        assert Limit.rate(10, 1, burst=5) == TokenBucket(10, SECOND, 5)
        assert Limit.rate(1, timedelta(days=31)).per_us == PER_MAX_US
        for limit in (Limit.concurrency(1), Limit.rate(1, 1), Limit.rate(1, 1, burst=1)):
            assert isinstance(limit, Limit)
            assert limit.key is None
            assert hash(limit) == hash(limit)

    def test_states_survive_json(self) -> None:
        holders = json.loads(json.dumps([asdict(A), asdict(B)]))
        assert structure(holders, tuple[Holder, ...]) == (A, B)
        assert structure(json.loads(json.dumps(asdict(Debt(3, 4)))), Debt) == Debt(3, 4)

    @pytest.mark.parametrize(
        ("field", "build"),
        [
            ("limit", Limit),
            ("n", lambda: Limit.concurrency(0)),
            ("n", lambda: Limit.concurrency(-1)),
            ("n", lambda: Limit.concurrency(True)),
            ("n", lambda: Limit.concurrency(1.0)),  # type: ignore[arg-type]
            ("n", lambda: Limit.concurrency("1")),  # type: ignore[arg-type]
            ("n", lambda: Limit.concurrency(None)),  # type: ignore[arg-type]
            ("n", lambda: Limit.concurrency(CONCURRENCY_MAX + 1)),
            ("n", lambda: Limit.rate(0, "1s")),
            ("n", lambda: Limit.rate(WINDOW_STARTS_MAX + 1, "1s")),
            ("n", lambda: Limit.rate(BUCKET_STARTS_MAX + 1, "1s", burst=1)),
            ("burst", lambda: Limit.rate(1, "1s", burst=0)),
            ("burst", lambda: Limit.rate(1, "1s", burst=True)),
            ("burst", lambda: Limit.rate(1, "1s", burst=BUCKET_STARTS_MAX + 1)),
            ("per", lambda: Limit.rate(1, 0)),
            ("per", lambda: Limit.rate(1, "-1s")),
            ("per", lambda: Limit.rate(1, "100ns")),
            ("per", lambda: Limit.rate(1, float("nan"))),
            ("per", lambda: Limit.rate(1, "32d")),
            ("per", lambda: Limit.rate(1, None)),  # type: ignore[arg-type]
            ("per_us", lambda: SlidingWindow(1, 32 * DAY)),
            ("per_us", lambda: TokenBucket(1, 0, 1)),
        ],
    )
    def test_bad_values_are_refused_by_the_name_of_the_field(self, field: str, build: Callable[[], object]) -> None:
        with pytest.raises(InvalidValue) as caught:
            build()
        assert caught.value.field == field

    def test_a_window_too_wide_to_keep_names_the_way_out(self) -> None:
        with pytest.raises(InvalidValue, match="for more, shorten per or give a burst"):
            Limit.rate(WINDOW_STARTS_MAX + 1, "1s")

    @pytest.mark.parametrize("key", ["", "a\n", "k" * 201, 7], ids=ascii)
    def test_bad_keys_are_refused(self, key: str) -> None:
        for build in (lambda: Limit.concurrency(1, key=key), lambda: Limit.rate(1, 1, key=key)):
            with pytest.raises(InvalidName) as caught:
                build()
            assert caught.value.field == "key"
