"""The book of leases: when to renew, when to give up, and what it costs."""

from __future__ import annotations

import pytest

from taskweave.core.ids import SECOND
from taskweave.core.lease import LEASE_MIN_US, LEASE_US, LeaseBook
from taskweave.core.verbs import Lease
from taskweave.exceptions import InvalidValue

A, B, C = Lease("a", 1), Lease("b", 1), Lease("c", 1)


@pytest.fixture
def book() -> LeaseBook:
    return LeaseBook(30 * SECOND)


def test_the_parts_of_a_lease(book: LeaseBook) -> None:
    assert book.lease_us == LEASE_US
    assert (book.renew_us, book.margin_us, book.again_us) == (10 * SECOND, 3 * SECOND, 3 * SECOND)


@pytest.mark.parametrize("lease_us", [LEASE_MIN_US - 1, 0, -1])
def test_a_lease_too_short_to_divide_is_refused(lease_us: int) -> None:
    with pytest.raises(InvalidValue, match=r"lease is .* expected at least"):
        LeaseBook(lease_us)
    assert LeaseBook(LEASE_MIN_US).again_us > 0


def test_an_empty_book_wakes_nobody(book: LeaseBook) -> None:
    assert book.wake_at() is None
    assert book.due(10**15) == book.overdue(10**15) == list(book) == []
    assert len(book) == 0


def test_a_lease_is_due_after_a_third(book: LeaseBook) -> None:
    book.add(A, 100)
    assert book.wake_at() == 100 + 10 * SECOND
    assert book.due(99 + 10 * SECOND) == []
    assert book.due(100 + 10 * SECOND) == [A]


def test_a_renewal_without_an_answer_is_asked_for_again(book: LeaseBook) -> None:
    book.add(A, 0)
    assert book.due(10 * SECOND) == [A]
    assert book.due(10 * SECOND) == []
    assert book.wake_at() == 13 * SECOND
    assert book.due(13 * SECOND) == [A]


def test_a_renewed_lease_counts_from_the_sending_of_the_renewal(book: LeaseBook) -> None:
    book.add(A, 0)
    book.add(B, 1)
    assert book.due(11 * SECOND) == [A, B]
    book.renewed([A, B], 11 * SECOND)
    assert book.wake_at() == 21 * SECOND
    assert book.overdue(27 * SECOND + 1) == []
    assert book.due(21 * SECOND) == [A, B]
    assert book.overdue(38 * SECOND - 1) == []
    assert sorted(book.overdue(38 * SECOND), key=lambda lease: lease.id) == [A, B]


def test_an_answer_that_comes_late_does_not_shorten_a_lease(book: LeaseBook) -> None:
    book.add(A, 0)
    book.renewed([A], 20 * SECOND)
    book.renewed([A], 10 * SECOND)
    assert book.overdue(46 * SECOND) == []
    assert book.overdue(47 * SECOND) == [A]


def test_overdue_is_a_margin_before_the_end_and_named_once(book: LeaseBook) -> None:
    book.add(A, 0)
    book.add(B, 0)
    assert book.overdue(27 * SECOND - 1) == []
    assert book.overdue(27 * SECOND) == [A, B]
    assert book.overdue(30 * SECOND) == []
    assert len(book) == 0
    book.renewed([A], 27 * SECOND)
    assert A not in book
    assert book.wake_at() is None


def test_past_its_stop_a_lease_is_not_renewed(book: LeaseBook) -> None:
    book.add(A, 0, stop_at=10 * SECOND)
    book.add(B, 0, stop_at=10 * SECOND + 1)
    book.add(C, 0)
    assert book.due(10 * SECOND) == [B, C]
    assert book.due(13 * SECOND) == [C]
    book.renewed([C], 13 * SECOND)
    assert book.overdue(27 * SECOND) == [A, B]


def test_the_stop_instant_survives_a_renewal(book: LeaseBook) -> None:
    book.add(A, 0, stop_at=15 * SECOND)
    book.renewed([A], 10 * SECOND)
    assert book.due(20 * SECOND) == []
    assert book.overdue(37 * SECOND) == [A]


def test_a_dropped_lease_is_forgotten(book: LeaseBook) -> None:
    book.add(A, 0)
    book.add(B, 5)
    assert book.drop(A)
    assert not book.drop(A)
    assert A not in book
    assert list(book) == [B]
    assert book.wake_at() == 5 + 10 * SECOND
    book.renewed([A], 5 * SECOND)
    assert book.due(10**9) == [B]


def test_the_same_job_under_another_fence_is_another_lease(book: LeaseBook) -> None:
    book.add(Lease("a", 1), 0)
    book.add(Lease("a", 3), 5 * SECOND)
    assert book.drop(Lease("a", 1))
    assert list(book) == [Lease("a", 3)]


def test_adding_again_replaces_both_instants(book: LeaseBook) -> None:
    book.add(A, 0, stop_at=1)
    book.add(A, 5 * SECOND)
    assert len(book) == 1
    assert book.due(10 * SECOND) == []
    assert book.due(15 * SECOND) == [A]


def test_leases_taken_in_another_order_than_sent_end_in_the_order_sent(book: LeaseBook) -> None:
    book.add(B, 9 * SECOND)
    book.add(A, 0)
    assert book.due(10 * SECOND) == [A]
    assert book.overdue(27 * SECOND) == [A]
    assert book.overdue(36 * SECOND) == [B]


def test_a_batch_that_emptied_and_filled_again_is_named_once(book: LeaseBook) -> None:
    book.add(A, 0)
    book.drop(A)
    book.add(B, 0)
    assert book.due(10 * SECOND) == [B]
    assert book.wake_at() == 13 * SECOND
    assert book.due(13 * SECOND) == [B]
    assert book.overdue(27 * SECOND) == [B]


def test_short_jobs_leave_nothing_behind(book: LeaseBook) -> None:
    book.add(A, 0)
    for sent_at in range(1, 20_000):
        lease = Lease(str(sent_at), 1)
        book.add(lease, sent_at)
        book.drop(lease)
    assert len(book._limits) < 3_000
    assert len(book._asks) < 3_000
    assert book.due(10 * SECOND) == [A]
    assert book.overdue(27 * SECOND) == [A]
    assert book.wake_at() is None
    assert book._limits == book._asks == []


def test_one_wake_up_renews_thousands(book: LeaseBook) -> None:
    leases = [Lease(str(n), 1) for n in range(10_000)]
    for number, lease in enumerate(leases):
        book.add(lease, number)
    assert book.due(11 * SECOND) == leases
    book.renewed(leases, 11 * SECOND)
    assert len(book) == 10_000
    assert book.wake_at() == 21 * SECOND
    assert len(book._batches) == 1
