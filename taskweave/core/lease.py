"""The leases that a worker holds, and when each must be renewed or given up.

A lease ends at an instant of store time that no worker can read. What a worker knows is its own monotonic instant
just before the request that took or renewed the lease left: the store counted from a later instant, so a lease
counted from the sending ends no later here than there. A margin covers clocks that run at slightly different speeds.

Rules
  renew      a third of the lease after it was taken or last renewed; asked again every tenth until it was renewed
  overdue    a tenth of the lease before its end: the run must be cancelled here, because it may start elsewhere
  stop       past its stop instant a lease is not renewed any more, so that a run which ignores its timeout loses it
  wake_at    once due() and overdue() were asked at an instant, the next wake-up is later than it

All leases last equally long, so the order of ends is the order of everything. Leases that end at the same instant,
those of one exchange or one renewal, are one batch: heaps hold an entry per batch, not per job, and a job that ends
before its first renewal costs two entries in dictionaries. A batch that emptied leaves its entries in the heaps;
they are skipped at the top, and swept when they are the majority.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from attrs import define

from taskweave.core.ids import SECOND, Fence, JobId, Micros
from taskweave.core.verbs import Lease
from taskweave.exceptions import InvalidValue

LEASE_US: Final[Micros] = 30 * SECOND
LEASE_MIN_US: Final[Micros] = 1_000  # below this the parts of a lease would vanish in rounding
RENEWALS_PER_LEASE: Final = 3  # two may fail before the lease is in danger
MARGINS_PER_LEASE: Final = 10
ASKS_PER_LEASE: Final = 10  # how often a renewal that was not answered is asked for again
_SWEEP_FROM: Final = 1_024  # entries of a heap, below which emptied batches are not worth a sweep


@define(eq=False)
class _Batch:
    """The leases with one end: by key the lease and its stop instant. Only the heap entry with `ask_at` counts."""

    until: Micros
    ask_at: Micros
    leases: dict[tuple[JobId, Fence], tuple[Lease, Micros | None]]


class LeaseBook:
    """Knows every lease held until it is dropped or overdue; one thread, and the caller's monotonic clock.

    Instants are microseconds. `add` and `drop` cost constant time, `due`, `overdue` and `renewed` what they return.
    Raises InvalidValue for a lease that is too short.
    """

    def __init__(self, lease_us: Micros = LEASE_US) -> None:
        if lease_us < LEASE_MIN_US:
            raise InvalidValue("lease", lease_us, f"at least {LEASE_MIN_US} microseconds")
        self.lease_us: Final = lease_us
        self.renew_us: Final = lease_us // RENEWALS_PER_LEASE
        self.margin_us: Final = lease_us // MARGINS_PER_LEASE
        self.again_us: Final = lease_us // ASKS_PER_LEASE
        self._held: dict[tuple[JobId, Fence], _Batch] = {}
        self._batches: dict[Micros, _Batch] = {}
        self._asks: list[tuple[Micros, Micros]] = []  # heap of (when to renew, end of the batch)
        self._limits: list[Micros] = []  # heap of ends

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, lease: Lease) -> bool:
        return (lease.id, lease.fence) in self._held

    def __iter__(self) -> Iterator[Lease]:
        """Every lease held, in no particular order."""
        return (lease for batch in self._batches.values() for lease, _ in batch.leases.values())

    def add(self, lease: Lease, sent_at: Micros, stop_at: Micros | None = None) -> None:
        """Hold a lease that was taken by a request sent at this instant; from `stop_at` on it is not renewed.

        A lease that is held already takes these instants instead.
        """
        key = (lease.id, lease.fence)
        if key in self._held:
            self.drop(lease)
        until = sent_at + self.lease_us
        batch = self._batches.get(until) or self._opened(until)
        batch.leases[key] = (lease, stop_at)
        self._held[key] = batch

    def drop(self, lease: Lease) -> bool:
        """Forget a lease, because its run is settled or it was lost; False when it is not held."""
        key = (lease.id, lease.fence)
        batch = self._held.pop(key, None)
        if batch is None:
            return False
        del batch.leases[key]
        if not batch.leases:
            del self._batches[batch.until]
        return True

    def renewed(self, leases: Iterable[Lease], sent_at: Micros) -> None:
        """These were renewed by a request sent at this instant; those dropped meanwhile stay dropped.

        An answer that comes late, after a newer one, never shortens a lease.
        """
        until = sent_at + self.lease_us
        for lease in leases:
            batch = self._held.get((lease.id, lease.fence))
            if batch is not None and batch.until < until:
                _, stop_at = batch.leases[lease.id, lease.fence]
                self.add(lease, sent_at, stop_at)

    def due(self, now: Micros) -> list[Lease]:
        """The leases to renew now. Each is named again a tenth of the lease later, until it is renewed or dropped."""
        leases: list[Lease] = []
        asks, batches = self._asks, self._batches
        while asks and asks[0][0] <= now:
            at, until = heappop(asks)
            batch = batches.get(until)
            if batch is None or batch.ask_at != at:
                continue
            leases += [lease for lease, stop_at in batch.leases.values() if stop_at is None or now < stop_at]
            batch.ask_at = now + self.again_us
            heappush(asks, (batch.ask_at, until))
        return leases

    def overdue(self, now: Micros) -> list[Lease]:
        """The leases that this worker must count as lost: their runs are to be cancelled. Each is named once."""
        leases: list[Lease] = []
        limits, last = self._limits, now + self.margin_us
        while limits and limits[0] <= last:
            batch = self._batches.pop(heappop(limits), None)
            if batch is None:
                continue
            for key, (lease, _) in batch.leases.items():
                del self._held[key]
                leases.append(lease)
        return leases

    def wake_at(self) -> Micros | None:
        """When due() or overdue() is to be asked next; None when nothing is held."""
        asks, limits, batches = self._asks, self._limits, self._batches
        if not batches:
            asks.clear()
            limits.clear()
            return None
        while (batch := batches.get(asks[0][1])) is None or batch.ask_at != asks[0][0]:
            heappop(asks)
        while limits[0] not in batches:
            heappop(limits)
        return min(asks[0][0], limits[0] - self.margin_us)

    def _opened(self, until: Micros) -> _Batch:
        batch = _Batch(until, until - self.lease_us + self.renew_us, {})
        self._batches[until] = batch
        heappush(self._asks, (batch.ask_at, until))
        heappush(self._limits, until)
        if len(self._limits) > _SWEEP_FROM and len(self._limits) > 2 * len(self._batches):
            self._asks = [(batch.ask_at, until) for until, batch in self._batches.items()]
            self._limits = list(self._batches)
            heapify(self._asks)
            heapify(self._limits)
        return batch
