"""A circuit breaker: stop calling what keeps failing, try it again carefully, and go on when it works.

    closed ── `failures` within `window` ──▶ open ── after `cooldown`, at the next start ──▶ half-open
       ▲                                      ▲                                                │
       └──── enough of the probes succeed ────│──── too few of them do ◀────────────────────────┘

Rules
  closed      every start is admitted; the instants of the last failures are kept, no more than can matter
  open        nothing is admitted before the cooldown is over
  half-open   `probes` results decide, and no more than that are under way; a probe whose owner vanished gives its
              place back when its lease ends, and its result, should it come after all, does not count
  generation  +1 at every change and at every probe, so that a probe's generation is its name; a result counts only
              if its start was admitted since the last change: old failures do not open what has just closed
  refused     is data (None): the job keeps its attempts and waits until `ready_at`

The policy is what users write; its state is another value, of whole numbers, kept wherever all starters see it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import evolve, frozen

from taskweave.core.bounds import check_name
from taskweave.core.ids import Duration, Micros, span_us
from taskweave.exceptions import InvalidValue

FAILURES_MAX: Final = 10_000
PROBES_MAX: Final = 1_000


class Phase(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@frozen
class Probe:
    """One start while half-open, by its generation; live until its result, or the end of its lease."""

    generation: int
    until: Micros


@frozen
class BreakerState:
    """What a breaker has seen. `failed_at` belongs to closed; `probes`, `succeeded` and `failed` to half-open."""

    phase: Phase = Phase.CLOSED
    generation: int = 0
    changed_at: Micros = 0
    failed_at: tuple[Micros, ...] = ()
    probes: tuple[Probe, ...] = ()
    succeeded: int = 0
    failed: int = 0


@frozen(init=False)
class Breaker:
    """Refuses starts under this name once `failures` of them failed within `window`, until probes succeed.

    After `cooldown`, `probes` starts are tried; if at least `success_ratio` of them succeed it closes, else it opens
    again. A probe that says nothing for `probe_lease` is taken for dead. Spans take "30s", seconds or a timedelta.
    Raises InvalidName, InvalidValue.
    """

    name: str
    failures: int
    window_us: Micros
    cooldown_us: Micros
    probes: int
    success_ratio: float
    probe_lease_us: Micros

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        window: Duration = "1m",
        cooldown: Duration = "30s",
        probes: int = 1,
        success_ratio: float = 0.5,
        probe_lease: Duration = "30s",
    ) -> None:
        # Written by hand, so that evolve() of spans that are already microseconds fails instead of scaling them again.
        put = object.__setattr__
        put(self, "name", check_name("breaker", name))
        put(self, "failures", _counted("failures", failures, FAILURES_MAX))
        put(self, "window_us", span_us(window, "window", least=1))
        put(self, "cooldown_us", span_us(cooldown, "cooldown", least=1))
        put(self, "probes", _counted("probes", probes, PROBES_MAX))
        put(self, "success_ratio", _ratio(success_ratio))
        put(self, "probe_lease_us", span_us(probe_lease, "probe_lease", least=1))

    def admit(self, state: BreakerState, now: Micros) -> tuple[BreakerState, int] | None:
        """Return the state after one more start and the generation that its result must carry, or None to refuse."""
        if state.phase is Phase.CLOSED:
            return state, state.generation
        if state.phase is Phase.OPEN:
            if now < state.changed_at + self.cooldown_us:
                return None
            return self._probing(_changed(state, Phase.HALF_OPEN, now), (), now)
        live = _live(state, now)
        if len(live) + state.succeeded + state.failed >= self.probes:
            return None
        return self._probing(state, live, now)

    def record(self, state: BreakerState, ok: bool, generation: int, now: Micros) -> BreakerState:
        """Return the state after the start of this generation succeeded or failed; the same if it does not count."""
        match state.phase:
            case Phase.CLOSED if not ok and generation == state.generation:
                recent = tuple(at for at in state.failed_at if at > now - self.window_us)
                if len(recent) + 1 >= self.failures:
                    return _changed(state, Phase.OPEN, now)
                return evolve(state, failed_at=(*recent, now))
            case Phase.HALF_OPEN:
                return self._probed(state, ok, generation, now)
            case _:
                return state

    def renew(self, state: BreakerState, generation: int, now: Micros) -> BreakerState:
        """Return the state in which this probe lives for another lease; the same if it is no live probe."""
        live = _live(state, now)
        if all(probe.generation != generation for probe in live):
            return state
        until = now + self.probe_lease_us
        kept = tuple(evolve(probe, until=until) if probe.generation == generation else probe for probe in live)
        return evolve(state, probes=kept)

    def ready_at(self, state: BreakerState, now: Micros) -> Micros:
        """The first instant at which a start might be admitted, if no result comes before; `now` if it would be."""
        if state.phase is Phase.OPEN:
            return max(now, state.changed_at + self.cooldown_us)
        live = _live(state, now)
        if state.phase is Phase.CLOSED or len(live) + state.succeeded + state.failed < self.probes:
            return now
        return min(probe.until for probe in live)

    def _probing(self, state: BreakerState, live: tuple[Probe, ...], now: Micros) -> tuple[BreakerState, int]:
        generation = state.generation + 1
        probe = Probe(generation, now + self.probe_lease_us)
        return evolve(state, generation=generation, probes=(*live, probe)), generation

    def _probed(self, state: BreakerState, ok: bool, generation: int, now: Micros) -> BreakerState:
        live = _live(state, now)
        rest = tuple(probe for probe in live if probe.generation != generation)
        if len(rest) == len(live):
            return state
        succeeded, failed = state.succeeded + ok, state.failed + (not ok)
        if succeeded + failed < self.probes:
            return evolve(state, probes=rest, succeeded=succeeded, failed=failed)
        enough = succeeded >= self.success_ratio * self.probes
        return _changed(state, Phase.CLOSED if enough else Phase.OPEN, now)


def _changed(state: BreakerState, phase: Phase, now: Micros) -> BreakerState:
    return BreakerState(phase, state.generation + 1, now)


def _live(state: BreakerState, now: Micros) -> tuple[Probe, ...]:
    return tuple(probe for probe in state.probes if now < probe.until)


def _counted(field: str, value: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidValue(field, value, f"an integer from 1 to {most}")
    return value


def _ratio(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidValue("success_ratio", value, "a number more than 0, up to 1")
    return float(value)
