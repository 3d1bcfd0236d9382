"""Limits on starts: how many at a time, and how many in a span of time.

Users write `Limit.concurrency` or `Limit.rate`; each is a machine whose state is another value, kept wherever all
starters see it, one for each value of `key`. A refused start is data: it says when to ask again.

Rules
  concurrency     live leases are the semaphore: no counter that could leak; a lease that ended frees its place
  sliding window  for every half-open interval of length W there are at most N starts: the last N instants are kept,
                  so start k + N is at least W after start k
  token bucket    with `burst` b: in any interval Δ at most b + Δ·n/per starts. The debt is a whole number of which
                  each start adds `per` and each microsecond takes away n, so that nothing is rounded and nothing drifts
                  (the leaky bucket as a meter: ITU-T I.371, annex A)

Rejected: fixed windows, which let up to 2N − 1 starts into some interval of length W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import Attribute, field, frozen

from taskweave.core.bounds import check_name
from taskweave.core.ids import DAY, Duration, Fence, JobId, Micros, span_us
from taskweave.exceptions import InvalidValue

CONCURRENCY_MAX: Final = 1_000_000
WINDOW_STARTS_MAX: Final = 10_000  # each is an instant that is kept
BUCKET_STARTS_MAX: Final = 1_000_000
PER_MAX_US: Final[Micros] = 31 * DAY  # times the most starts this still fits 63 bits


def _whole(most: int, remedy: str = "") -> Callable[[object, Attribute[int], int], None]:
    def check(_: object, attribute: Attribute[int], value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InvalidValue(attribute.name, value, f"an integer from 1 to {most}{remedy}")

    return check


def _named(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None:
        check_name(attribute.name, value)


class Limit:
    """Bounds the starts of the tasks that carry it; with `key`, apart for each value of that argument."""

    __slots__ = ()
    key: str | None

    def __init__(self) -> None:
        raise InvalidValue("limit", "Limit()", "Limit.concurrency(2) or Limit.rate(100, '1m')")

    @staticmethod
    def concurrency(n: int, *, key: str | None = None) -> Concurrency:
        """At most `n` run at any instant, over all workers. Raises InvalidName, InvalidValue."""
        return Concurrency(n, key)

    @staticmethod
    def rate(n: int, per: Duration, *, burst: int | None = None, key: str | None = None) -> SlidingWindow | TokenBucket:
        """At most `n` start in every span of length `per`, over all workers; retries are starts too.

        With `burst`: at most burst + n·Δ/per in any span Δ, which admits `burst` at once after a pause. `per` takes
        "1m", seconds or a timedelta, up to 31 days. Raises InvalidName, InvalidValue.
        """
        per_us = span_us(per, "per", least=1)
        if per_us > PER_MAX_US:
            raise InvalidValue("per", per, "at most 31 days")
        return SlidingWindow(n, per_us, key) if burst is None else TokenBucket(n, per_us, burst, key)


@frozen
class Holder:
    """One job that runs under a concurrency limit, until its lease ends."""

    id: JobId
    fence: Fence
    until: Micros


@frozen
class Concurrency(Limit):
    """State: the holders, oldest first; () at the beginning."""

    n: int = field(validator=_whole(CONCURRENCY_MAX))
    key: str | None = field(default=None, validator=_named)

    def admit(self, state: tuple[Holder, ...], holder: Holder, now: Micros) -> tuple[tuple[Holder, ...], Micros | None]:
        """Return the live holders with this one and None, or without it and when a lease ends at the latest.

        The same (id, fence) again is a repeat: it takes no second place.
        """
        others = tuple(other for other in _live(state, now) if not _same(other, holder))
        if len(others) >= self.n:
            return others, min(other.until for other in others)
        return (*others, holder), None

    def renew(self, state: tuple[Holder, ...], holder: Holder, now: Micros) -> tuple[Holder, ...]:
        """Return the live holders, this one with its new end; one that is not among them is not let in."""
        return tuple(holder if _same(other, holder) else other for other in _live(state, now))

    def release(self, state: tuple[Holder, ...], id: JobId, fence: Fence, now: Micros) -> tuple[Holder, ...]:
        """Return the live holders without this one."""
        return tuple(other for other in _live(state, now) if other.id != id or other.fence != fence)


@frozen
class SlidingWindow(Limit):
    """State: the instants of the starts that still count, oldest first, at most n; () at the beginning."""

    n: int = field(validator=_whole(WINDOW_STARTS_MAX, "; for more, shorten per or give a burst"))
    per_us: Micros = field(validator=_whole(PER_MAX_US))
    key: str | None = field(default=None, validator=_named)

    def admit(self, state: tuple[Micros, ...], now: Micros) -> tuple[tuple[Micros, ...], Micros | None]:
        """Return the state after one more start and None, or the state as it is and when to ask again."""
        now = max(now, state[-1]) if state else now
        if len(state) >= self.n and now < state[-self.n] + self.per_us:
            return state, state[-self.n] + self.per_us
        recent = tuple(at for at in state if now < at + self.per_us)
        return (*recent, now), None


@frozen
class Debt:
    """How full a bucket was at an instant: `per` for each start that the rate has not worked off yet."""

    debt: int = 0
    at: Micros = 0


@frozen
class TokenBucket(Limit):
    """State: a Debt; Debt() at the beginning."""

    n: int = field(validator=_whole(BUCKET_STARTS_MAX))
    per_us: Micros = field(validator=_whole(PER_MAX_US))
    burst: int = field(validator=_whole(BUCKET_STARTS_MAX))
    key: str | None = field(default=None, validator=_named)

    def admit(self, state: Debt, now: Micros) -> tuple[Debt, Micros | None]:
        """Return the state after one more start and None, or the state as it is and when to ask again."""
        now = max(now, state.at)
        debt = max(0, state.debt - (now - state.at) * self.n) + self.per_us
        above = debt - self.burst * self.per_us
        if above > 0:
            return state, now - (-above // self.n)
        return Debt(debt, now), None


def _same(one: Holder, other: Holder) -> bool:
    return one.id == other.id and one.fence == other.fence


def _live(state: tuple[Holder, ...], now: Micros) -> tuple[Holder, ...]:
    return tuple(holder for holder in state if now < holder.until)
