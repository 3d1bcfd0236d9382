"""The book of leases against a plain dictionary, with answers that come late, out of order, or never.

Overdue must be exact, because another worker may start the job from then on. Due may be late by the pause between two
asks, where a lease joins others with the same end, and never early. Following wake_at alone must be enough.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import define
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskweave.core import lease as lease_module
from taskweave.core.ids import Micros
from taskweave.core.lease import LeaseBook
from taskweave.core.verbs import Lease

LEASE_US = 3_000
WALK = settings(max_examples=200, stateful_step_count=50, derandomize=True, deadline=None)
HUNT = settings(WALK, phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

leases = st.builds(Lease, st.sampled_from("abcdef"), st.integers(1, 2))


@define
class Known:
    sent_at: Micros
    stop_at: Micros | None
    since: Micros  # when the book was told, or last named it
    named: bool = False


class Book(RuleBasedStateMachine):
    book_type: type[LeaseBook] = LeaseBook

    @initialize()
    def begin(self) -> None:
        self.book = self.book_type(LEASE_US)
        self.known: dict[Lease, Known] = {}
        self.asked: list[tuple[list[Lease], Micros]] = []
        self.now = 1_000_000

    @rule(lease=leases, took=st.sampled_from([0, 0, 1, 50, 1_500]), stop=st.one_of(st.none(), st.integers(0, 5_000)))
    def add(self, lease: Lease, took: Micros, stop: Micros | None) -> None:
        sent_at = self.now - took
        stop_at = None if stop is None else sent_at + stop
        self.book.add(lease, sent_at, stop_at)
        self.known[lease] = Known(sent_at, stop_at, self.now)

    @rule(lease=leases)
    def drop(self, lease: Lease) -> None:
        assert self.book.drop(lease) == (self.known.pop(lease, None) is not None)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def drop_one_that_is_held(self, data: st.DataObject) -> None:
        self.drop(data.draw(st.sampled_from(sorted(self.known, key=repr))))

    @rule(by=st.sampled_from([1, 50, 299, 300, 301, 1_000, 2_699]))
    def time_passes(self, by: Micros) -> None:
        self.now += by
        self.look()

    @precondition(lambda self: self.known)
    @rule()
    def sleep_until_woken(self) -> None:
        at = self.book.wake_at()
        assert at is not None
        self.now = max(self.now, at)
        self.look()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), some=st.booleans())
    def answer(self, data: st.DataObject, some: bool) -> None:
        renewed, sent_at = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        if some:
            renewed = renewed[::2]
        self.book.renewed(renewed, sent_at)
        for lease in renewed:
            known = self.known.get(lease)
            if known is not None and known.sent_at < sent_at:
                self.known[lease] = Known(sent_at, known.stop_at, self.now)

    @precondition(lambda self: self.asked)
    @rule()
    def no_answer(self) -> None:
        self.asked.pop()

    def look(self) -> None:
        """What the keeper does at every wake-up."""
        due = self.book.due(self.now)
        assert len(due) == len(set(due))
        for lease in due:
            known = self.known[lease]
            assert known.stop_at is None or self.now < known.stop_at
            assert self.now >= known.sent_at + LEASE_US // 3
            assert not known.named or self.now >= known.since + LEASE_US // 10
        missing = {lease for lease, known in self.known.items() if self.must_be_named(known)} - set(due)
        assert not missing
        for lease in due:
            self.known[lease].named, self.known[lease].since = True, self.now
        if due:
            self.asked.append((due, self.now))
        overdue = self.book.overdue(self.now)
        late = {lease for lease, known in self.known.items() if self.now >= self.limit(known)}
        assert len(overdue) == len(late)
        assert set(overdue) == late
        for lease in late:
            del self.known[lease]
        at = self.book.wake_at()
        assert at is None or at > self.now

    def must_be_named(self, known: Known) -> bool:
        started = self.now >= known.sent_at + LEASE_US // 3
        stopped = known.stop_at is not None and self.now >= known.stop_at
        return started and not stopped and self.now >= known.since + LEASE_US // 10

    def limit(self, known: Known) -> Micros:
        return known.sent_at + LEASE_US - LEASE_US // 10

    @invariant()
    def same_leases(self) -> None:
        if not hasattr(self, "known"):
            return
        assert len(self.book) == len(self.known)
        assert sorted(self.book, key=repr) == sorted(self.known, key=repr)
        assert all(lease in self.book for lease in self.known)
        at = self.book.wake_at()
        assert (at is None) == (not self.known)
        if at is not None:
            assert at <= min(self.limit(known) for known in self.known.values())


@pytest.fixture(autouse=True)
def _sweep_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_SWEEP_FROM", 3)


def test_the_book_agrees_with_a_dictionary() -> None:
    run_state_machine_as_test(Book, settings=WALK)


class Shortens(LeaseBook):
    def renewed(self, leases: Iterable[Lease], sent_at: Micros) -> None:
        for lease in leases:
            batch = self._held.get((lease.id, lease.fence))
            if batch is not None:
                self.add(lease, sent_at, batch.leases[lease.id, lease.fence][1])


class ForgetsTheStop(LeaseBook):
    def renewed(self, leases: Iterable[Lease], sent_at: Micros) -> None:
        for lease in leases:
            batch = self._held.get((lease.id, lease.fence))
            if batch is not None and batch.until < sent_at + self.lease_us:
                self.add(lease, sent_at)


class RevivesTheDropped(LeaseBook):
    def renewed(self, leases: Iterable[Lease], sent_at: Micros) -> None:
        known = list(leases)
        super().renewed(known, sent_at)
        for lease in known:
            if lease not in self:
                self.add(lease, sent_at)


class HasNoMargin(LeaseBook):
    def overdue(self, now: Micros) -> list[Lease]:
        return super().overdue(now - self.margin_us)


class CountsFromTheAnswer(LeaseBook):
    def add(self, lease: Lease, sent_at: Micros, stop_at: Micros | None = None) -> None:
        super().add(lease, sent_at + 1, stop_at)


class AsksOnce(LeaseBook):
    def due(self, now: Micros) -> list[Lease]:
        leases = super().due(now)
        for lease in leases:
            self._held[lease.id, lease.fence].ask_at = now + self.lease_us
        return leases


class NamesTheOverdueForEver(LeaseBook):
    def overdue(self, now: Micros) -> list[Lease]:
        leases = super().overdue(now)
        for lease in leases:
            self.add(lease, now - self.lease_us)
        return leases


class IgnoresTheFence(LeaseBook):
    def drop(self, lease: Lease) -> bool:
        for fence in (1, 2):
            if (lease.id, fence) in self._held:
                return super().drop(Lease(lease.id, fence))
        return False


class SweepsTooMuch(LeaseBook):
    def add(self, lease: Lease, sent_at: Micros, stop_at: Micros | None = None) -> None:
        super().add(lease, sent_at, stop_at)
        if len(self._asks) > 4:
            self._asks = self._asks[:2]


@pytest.mark.parametrize(
    "bug",
    [
        Shortens,
        ForgetsTheStop,
        RevivesTheDropped,
        HasNoMargin,
        CountsFromTheAnswer,
        AsksOnce,
        NamesTheOverdueForEver,
        IgnoresTheFence,
        SweepsTooMuch,
    ],
)
def test_planted_bugs_are_found(bug: type[LeaseBook]) -> None:
    broken = type(f"{bug.__name__}Walk", (Book,), {"book_type": bug})
    with pytest.raises((AssertionError, KeyError, IndexError)):
        run_state_machine_as_test(broken, settings=HUNT)
