"""I10 and the leases of I9: every window that begins at a start is counted by brute force.

The other half is that nothing is refused without need: a refused start asks again exactly when told, and is admitted
at the first instant at which the definition allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from taskweave.core.ids import Micros
from taskweave.core.limit import Concurrency, Debt, Holder, SlidingWindow, TokenBucket

PROFILE = settings(max_examples=300, derandomize=True, deadline=None)
HUNT = settings(PROFILE, phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

Arrivals: TypeAlias = list[tuple[Micros, bool]]  # the pause before, and whether it waits when it is refused
arrivals = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 200)), st.booleans()), max_size=40
)
EVERY = given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 5), arrivals)


def started(limit: SlidingWindow | TokenBucket, coming: Arrivals) -> list[Micros]:
    """The starts that the limit admits; each refusal must be needed, and must name the first instant that is free."""
    state: object = () if isinstance(limit, SlidingWindow) else Debt()
    now, starts = 1_000, list[Micros]()
    for pause, waits in coming:
        now += pause
        state, refused = limit.admit(state, now)  # type: ignore[arg-type]  # each limit has its own state
        assert (refused is None) == allowed(limit, starts, now)
        if refused is not None:
            assert refused > now
            assert allowed(limit, starts, refused)
            assert not allowed(limit, starts, refused - 1)
            if not waits:
                continue
            now = refused
            state, refused = limit.admit(state, now)  # type: ignore[arg-type]
            assert refused is None
        starts.append(now)
    return starts


def allowed(limit: SlidingWindow | TokenBucket, starts: list[Micros], now: Micros) -> bool:
    """Whether one more start at `now` keeps every interval that ends there within the definition."""
    after = [*starts, now]
    for index, first in enumerate(after):
        inside = len(after) - index
        if isinstance(limit, SlidingWindow):
            if now - first < limit.per_us and inside > limit.n:
                return False
        elif inside * limit.per_us > limit.burst * limit.per_us + (now - first) * limit.n:
            return False
    return True


def window_admits_at_most_n(window: type[SlidingWindow]) -> Callable[[], None]:
    def check(n: int, per: Micros, _: int, coming: Arrivals) -> None:
        starts = started(window(n, per), coming)
        for start in starts:
            assert sum(start <= other < start + per for other in starts) <= n

    return EVERY(check)


def bucket_admits_at_most_burst_and_rate(bucket: type[TokenBucket]) -> Callable[[], None]:
    def check(n: int, per: Micros, burst: int, coming: Arrivals) -> None:
        starts = started(bucket(n, per, burst), coming)
        for index, first in enumerate(starts):
            for inside, last in enumerate(starts[index:], start=1):
                assert inside * per <= burst * per + (last - first) * n

    return EVERY(check)


def test_i10_no_window_of_this_length_has_more_starts() -> None:
    PROFILE(window_admits_at_most_n(SlidingWindow))()


def test_i10_no_interval_has_more_than_burst_and_rate() -> None:
    PROFILE(bucket_admits_at_most_burst_and_rate(TokenBucket))()


def test_state_of_a_window_is_bounded() -> None:
    @PROFILE
    @EVERY
    def bounded(n: int, per: Micros, _: int, coming: Arrivals) -> None:
        state: tuple[Micros, ...] = ()
        now = 0
        for pause, _waits in coming:
            now += pause
            state, _refused = SlidingWindow(n, per).admit(state, now)
            assert len(state) <= n
            assert list(state) == sorted(state)

    bounded()


class FixedWindow(SlidingWindow):
    def admit(self, state: tuple[Micros, ...], now: Micros) -> tuple[tuple[Micros, ...], Micros | None]:
        begin = now - now % self.per_us
        inside = tuple(at for at in state if at >= begin)
        return (inside, begin + self.per_us) if len(inside) >= self.n else ((*inside, now), None)


class ClosedWindow(SlidingWindow):
    def admit(self, state: tuple[Micros, ...], now: Micros) -> tuple[tuple[Micros, ...], Micros | None]:
        recent = tuple(at for at in state if at + self.per_us >= now)
        return (recent, recent[0] + self.per_us) if len(recent) >= self.n else ((*recent, now), None)


class CountsRefused(SlidingWindow):
    def admit(self, state: tuple[Micros, ...], now: Micros) -> tuple[tuple[Micros, ...], Micros | None]:
        after, refused = super().admit(state, now)
        return (*after[1:], now) if refused else after, refused


class OneTooMany(SlidingWindow):
    def admit(self, state: tuple[Micros, ...], now: Micros) -> tuple[tuple[Micros, ...], Micros | None]:
        return SlidingWindow(self.n + 1, self.per_us).admit(state, now)


@pytest.mark.parametrize("bug", [FixedWindow, ClosedWindow, CountsRefused, OneTooMany])
def test_planted_bugs_in_the_window_are_found(bug: type[SlidingWindow]) -> None:
    with pytest.raises(AssertionError):
        HUNT(window_admits_at_most_n(bug))()


class Rounds(TokenBucket):
    def admit(self, state: Debt, now: Micros) -> tuple[Debt, Micros | None]:
        after, refused = super().admit(state, now)
        return (Debt(after.debt - after.debt % self.n, after.at), None) if refused is None else (after, refused)


class FullTwice(TokenBucket):
    def admit(self, state: Debt, now: Micros) -> tuple[Debt, Micros | None]:
        return super().admit(Debt(max(state.debt, 0), state.at - self.per_us), now)


class ForgetsTheInstant(TokenBucket):
    def admit(self, state: Debt, now: Micros) -> tuple[Debt, Micros | None]:
        after, refused = super().admit(state, now)
        return (after, refused) if refused is None else (Debt(after.debt, now), refused)


@pytest.mark.parametrize("bug", [Rounds, FullTwice, ForgetsTheInstant])
def test_planted_bugs_in_the_bucket_are_found(bug: type[TokenBucket]) -> None:
    with pytest.raises(AssertionError):
        HUNT(bucket_admits_at_most_burst_and_rate(bug))()


class Semaphore(RuleBasedStateMachine):
    """Workers that run, renew, end, vanish and send things twice, under one concurrency limit."""

    limit_type: type[Concurrency] = Concurrency

    @initialize(n=st.integers(1, 3))
    def begin(self, n: int) -> None:
        self.limit = self.limit_type(n)
        self.state: tuple[Holder, ...] = ()
        self.live: dict[tuple[str, int], Micros] = {}
        self.now = 0

    @rule(id=st.sampled_from("abcde"), fence=st.integers(1, 2), lease=st.integers(1, 50))
    def start(self, id: str, fence: int, lease: Micros) -> None:
        others = [until for key, until in self.live.items() if key != (id, fence)]
        self.state, refused = self.limit.admit(self.state, Holder(id, fence, self.now + lease), self.now)
        if len(others) < self.limit.n:
            assert refused is None
            self.live[id, fence] = self.now + lease
        else:
            assert refused == min(others)
            assert refused > self.now

    @rule(id=st.sampled_from("abcde"), fence=st.integers(1, 2), lease=st.integers(1, 50))
    def renew(self, id: str, fence: int, lease: Micros) -> None:
        self.state = self.limit.renew(self.state, Holder(id, fence, self.now + lease), self.now)
        if (id, fence) in self.live:
            self.live[id, fence] = self.now + lease

    @rule(id=st.sampled_from("abcde"), fence=st.integers(1, 2))
    def end(self, id: str, fence: int) -> None:
        self.state = self.limit.release(self.state, id, fence, self.now)
        self.live.pop((id, fence), None)

    @rule(by=st.integers(1, 30))
    def time_passes(self, by: Micros) -> None:
        self.now += by
        self.live = {key: until for key, until in self.live.items() if self.now < until}

    @invariant()
    def leases_are_the_semaphore(self) -> None:
        if not hasattr(self, "live"):
            return
        live = {(holder.id, holder.fence): holder.until for holder in self.state if self.now < holder.until}
        assert live == self.live
        assert len(live) <= self.limit.n
        assert len(self.state) <= self.limit.n


def test_i9_live_leases_never_exceed_the_limit() -> None:
    run_state_machine_as_test(Semaphore, settings=settings(PROFILE, max_examples=150, stateful_step_count=40))


class NeverExpires(Concurrency):
    def admit(self, state: tuple[Holder, ...], holder: Holder, now: Micros) -> tuple[tuple[Holder, ...], Micros | None]:
        return super().admit(state, holder, 0)


class CountsRepeats(Concurrency):
    def admit(self, state: tuple[Holder, ...], holder: Holder, now: Micros) -> tuple[tuple[Holder, ...], Micros | None]:
        live = tuple(other for other in state if now < other.until)
        if len(live) >= self.n:
            return live, min(other.until for other in live)
        return super().admit(state, holder, now)


class ReleasesByJob(Concurrency):
    def release(self, state: tuple[Holder, ...], id: str, fence: int, now: Micros) -> tuple[Holder, ...]:
        return tuple(other for other in state if other.id != id and now < other.until)


class RenewLetsIn(Concurrency):
    def renew(self, state: tuple[Holder, ...], holder: Holder, now: Micros) -> tuple[Holder, ...]:
        return self.admit(state, holder, now)[0]


@pytest.mark.parametrize("bug", [NeverExpires, CountsRepeats, ReleasesByJob, RenewLetsIn])
def test_planted_bugs_in_the_semaphore_are_found(bug: type[Concurrency]) -> None:
    broken = type(f"{bug.__name__}Semaphore", (Semaphore,), {"limit_type": bug})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=settings(HUNT, stateful_step_count=40))
