"""When a failed attempt is tried again: a policy as users write it, and the pure decision made from it.

Rules
  attempt    counted at the claim, from 1: `Retry(n)` means n attempts in all, so a failure of attempt n ends the job
  schedule   after attempt n: fixed base; linear base·n; exponential base·factorⁿ⁻¹; never more than cap
  jitter     full: uniform from 0 to that delay, so that jobs which failed together do not come back together
  match      by qualified name, over the classes of `Failure.kinds`: failures travel as text, out of processes too
  judged     `never` first, then the first of `rules` that matches, as with `except`, then `on`; no match: no retry
  elapsed    no attempt becomes due later than `max_elapsed` after the job was first due
  row        the job's own max_attempts replaces `attempts`; a rule can only narrow attempts and max_elapsed further

Decorrelated delays (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) are
min(cap, uniform(base, 3 × previous)). A row keeps no previous delay, and needs none: the previous delay after attempt
n is at most base·3ⁿ⁻¹, so the delay is drawn from base to min(cap, base·3ⁿ). The range is that of the original; only
the weight inside differs. One jitter number decides, so that a recorded history replays exactly.

Rejected: exponents without a bound (a float overflows at 2.0 ** 1024); the instant from which the cap holds is
computed once, when the policy is built.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal, TypeAlias, TypedDict, Unpack, get_args

from attrs import field, frozen

from taskweave.core.bounds import ATTEMPTS_MAX
from taskweave.core.ids import SECOND, Duration, Micros, span_us
from taskweave.core.job import Failure
from taskweave.exceptions import InvalidValue

Strategy: TypeAlias = Literal["exponential", "fixed", "linear", "decorrelated"]
Errors: TypeAlias = Sequence[type[BaseException]]
Rules: TypeAlias = "Sequence[tuple[type[BaseException], Retry | None]]"

FACTOR_MAX: Final = 1_000.0
KIND_CHARS_MAX: Final = 200
KINDS_MAX: Final = 16
DECORRELATED_FACTOR: Final = 3.0
_STRATEGIES: Final = get_args(Strategy)
_NEVER_REACHED: Final = 1 << 62
_UNKNOWN: Final = frozenset({"builtins.Exception", "builtins.BaseException"})
_ANY: Final[Errors] = (Exception,)


def kind(error: type[BaseException]) -> str:
    """Return the name by which rules meet this class: its module and qualified name, e.g. "builtins.OSError".

    Bounded, and of characters that every store and encoder takes.
    """
    module = "__main__" if error.__module__ == "__taskweave_main__" else error.__module__  # as child processes load it
    name = f"{module}.{error.__qualname__}"[:KIND_CHARS_MAX]
    return name if name.isprintable() else ascii(name)


def kinds(error: type[BaseException]) -> tuple[str, ...]:
    """Return the names of the class and its bases, nearest first: what `Failure.kinds` holds.

    Of very many the nearest are kept and the last, which are Exception and BaseException: rules name them most.
    """
    bases = [base for base in error.__mro__ if base is not object]
    if len(bases) > KINDS_MAX:
        bases[KINDS_MAX - 4 : -4] = []
    return tuple(kind(base) for base in bases)


@frozen
class Rule:
    """One exception class's own policy; None means that it is not retried."""

    kind: str
    retry: Retry | None


class Options(TypedDict, total=False):
    """What every strategy takes, as `Retry` itself does."""

    attempts: int
    max_elapsed: Duration | None
    jitter: bool
    on: Errors
    never: Errors
    rules: Rules


@frozen(init=False)
class Retry:
    """Bounds every job to `attempts` starts that fail, with growing pauses between them.

    `base`, `cap` and `max_elapsed` take "30s", 1.5 (seconds) or a timedelta, and are kept in microseconds; up to ten
    years. `on` are the exception classes that are retried, children included, `never` those that are not, `rules`
    pairs of a class and the Retry that it gets instead, or None. `jitter` draws each delay from 0 to its full length;
    decorrelated delays are random by their nature. Raises InvalidValue.
    """

    attempts: int
    strategy: Strategy
    base_us: Micros
    cap_us: Micros
    factor: float
    max_elapsed_us: Micros | None
    jitter: bool
    on: frozenset[str]
    never: frozenset[str]
    rules: tuple[Rule, ...]
    capped_from: int = field(eq=False, repr=False)  # the exponent from which the cap holds

    def __init__(
        self,
        attempts: int = 5,
        *,
        base: Duration = "1s",
        cap: Duration = "10m",
        factor: float = 2.0,
        strategy: Strategy = "exponential",
        max_elapsed: Duration | None = None,
        jitter: bool = True,
        on: Errors = _ANY,
        never: Errors = (),
        rules: Rules = (),
    ) -> None:
        # Written by hand, so that evolve() of spans that are already microseconds fails instead of scaling them again.
        growing = _checked_strategy(strategy) != "fixed"
        base_us = span_us(base, "base", least=1 if growing else 0)
        cap_us = span_us(cap, "cap") if growing else base_us
        if base_us > cap_us:
            raise InvalidValue("base", base, f"at most cap, which is {cap_us / SECOND:g} s; raise cap too")
        if not isinstance(jitter, bool):
            raise InvalidValue("jitter", jitter, "True or False")
        if strategy == "decorrelated" and not jitter:
            raise InvalidValue("jitter", jitter, "True, since decorrelated delays are random by definition")
        growth = DECORRELATED_FACTOR if strategy == "decorrelated" else _checked_factor(factor)
        put = object.__setattr__
        put(self, "attempts", _checked_attempts(attempts))
        put(self, "strategy", strategy)
        put(self, "base_us", base_us)
        put(self, "cap_us", cap_us)
        put(self, "factor", growth)
        put(self, "max_elapsed_us", None if max_elapsed is None else span_us(max_elapsed, "max_elapsed"))
        put(self, "jitter", jitter)
        put(self, "on", _names("on", on))
        put(self, "never", _names("never", never))
        put(self, "rules", _checked_rules(rules))
        put(self, "capped_from", _capped_from(base_us, cap_us, growth) if growing else _NEVER_REACHED)

    @classmethod
    def fixed(cls, delay: Duration, **options: Unpack[Options]) -> Retry:
        """Waits the same `delay` after every failed attempt; exact unless `jitter=True`. Raises InvalidValue."""
        options.setdefault("jitter", False)
        return cls(base=delay, strategy="fixed", **options)

    @classmethod
    def linear(cls, step: Duration, *, cap: Duration = "10m", **options: Unpack[Options]) -> Retry:
        """Waits `step`, 2 × `step`, 3 × `step` … up to `cap`; exact unless `jitter=True`. Raises InvalidValue."""
        options.setdefault("jitter", False)
        return cls(base=step, cap=cap, strategy="linear", **options)

    @classmethod
    def exponential(
        cls, base: Duration = "1s", *, cap: Duration = "10m", factor: float = 2.0, **options: Unpack[Options]
    ) -> Retry:
        """Waits at most `base` × `factor`ⁿ, n = 0, 1 …, up to `cap`, with full jitter. Raises InvalidValue."""
        return cls(base=base, cap=cap, factor=factor, **options)

    @classmethod
    def decorrelated(cls, base: Duration = "1s", *, cap: Duration = "10m", **options: Unpack[Options]) -> Retry:
        """Waits a random span from `base` to `base` × 3ⁿ, n = 1, 2 …, up to `cap`. Raises InvalidValue."""
        return cls(base=base, cap=cap, strategy="decorrelated", **options)

    def allows(self, attempt: int, age_us: Micros, max_attempts: int | None = None, delay_us: Micros = 0) -> bool:
        """Whether attempt + 1 may become due `delay_us` from now, whatever the failure was: RetryAfter asks this."""
        if attempt >= (self.attempts if max_attempts is None else max_attempts):
            return False
        return self.max_elapsed_us is None or age_us + delay_us <= self.max_elapsed_us

    def delay_us(self, attempt: int, jitter: float) -> Micros:
        """The pause after this attempt (from 1), by the strategy alone; `jitter` in [0, 1)."""
        base, cap = self.base_us, self.cap_us
        strategy = self.strategy
        if strategy == "fixed":
            most = base
        elif strategy == "linear":
            most = min(base * attempt, cap)
        elif strategy == "exponential":
            exponent = attempt - 1
            most = cap if exponent >= self.capped_from else min(int(base * self.factor**exponent), cap)
        else:
            most = cap if attempt >= self.capped_from else min(int(base * self.factor**attempt), cap)
            return min(base + int((most - base + 1) * jitter), most)
        return min(int((most + 1) * jitter), most) if self.jitter else most


def next_delay(
    policy: Retry,
    failure: Failure | None,
    attempt: int,
    age_us: Micros,
    jitter: float,
    max_attempts: int | None = None,
) -> Micros | None:
    """Return how long to wait before the next attempt, or None when there is none.

    None means: not retryable, attempts spent, or the next attempt would become due after max_elapsed. `attempt` is
    the one that failed, `age_us` the time since the job was first due, `jitter` a fresh number in [0, 1). A failure
    of unknown kind (None: the process died, say) counts as a plain Exception. `max_attempts` is the job's own.
    """
    if not policy.allows(attempt, age_us, max_attempts):
        return None
    chosen = _judged(policy, failure)
    if chosen is None:
        return None
    delay = chosen.delay_us(attempt, jitter)
    if not policy.allows(attempt, age_us, max_attempts, delay):
        return None
    if chosen is not policy and not chosen.allows(attempt, age_us, None, delay):
        return None
    return delay


def schedule(policy: Retry, jitters: Iterable[float]) -> list[Micros]:
    """Return the delays of a job that fails at once at every attempt, one number of `jitters` for each.

    Never longer than the jitters, attempts − 1, or what max_elapsed leaves room for.
    """
    delays: list[Micros] = []
    age = 0
    for attempt, jitter in enumerate(jitters, start=1):
        delay = policy.delay_us(attempt, jitter)
        if not policy.allows(attempt, age, None, delay):
            break
        delays.append(delay)
        age += delay
    return delays


def _judged(policy: Retry, failure: Failure | None) -> Retry | None:
    """The policy that decides about this failure, or None when it is not retried."""
    names: Collection[str] = _UNKNOWN if failure is None else failure.kinds or (failure.type, *_UNKNOWN)
    if policy.never and not policy.never.isdisjoint(names):
        return None
    for rule in policy.rules:
        if rule.kind in names:
            return rule.retry
    return None if policy.on.isdisjoint(names) else policy


def _capped_from(base_us: Micros, cap_us: Micros, factor: float) -> int:
    """The first exponent at which base × factor ** exponent surely reaches the cap."""
    if base_us == cap_us:
        return 0
    if factor == 1.0:
        return _NEVER_REACHED
    return math.ceil(math.log(cap_us / base_us) / math.log(factor)) + 1


def _checked_strategy(strategy: Strategy) -> Strategy:
    if strategy not in _STRATEGIES:
        raise InvalidValue("strategy", strategy, "one of " + ", ".join(_STRATEGIES))
    return strategy


def _checked_attempts(attempts: int) -> int:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= ATTEMPTS_MAX:
        raise InvalidValue("attempts", attempts, f"an integer from 1 to {ATTEMPTS_MAX}, the first attempt included")
    return attempts


def _checked_factor(factor: float) -> float:
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= FACTOR_MAX:
        raise InvalidValue("factor", factor, f"a number from 1 to {FACTOR_MAX:g}")
    return float(factor)


def _names(where: str, errors: Errors) -> frozenset[str]:
    if not isinstance(errors, tuple | list):
        raise InvalidValue(where, errors, "a tuple of exception classes, e.g. (OSError,)")
    return frozenset(kind(_checked_error(where, error)) for error in errors)


def _checked_error(where: str, error: type[BaseException]) -> type[BaseException]:
    if not isinstance(error, type) or not issubclass(error, BaseException):
        raise InvalidValue(where, error, "exception classes, e.g. (OSError,)")
    return error


def _checked_rules(rules: Rules) -> tuple[Rule, ...]:
    wanted = "pairs of an exception class and a Retry or None, e.g. ((OSError, Retry.fixed('5s')), (ValueError, None))"
    if not isinstance(rules, tuple | list):
        raise InvalidValue("rules", rules, wanted)
    checked: list[Rule] = []
    for pair in rules:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidValue("rules", pair, wanted)
        error, retry = pair
        if retry is not None and not isinstance(retry, Retry):
            raise InvalidValue("rules", retry, wanted)
        if retry is not None and (retry.rules or retry.never or retry.on != frozenset({"builtins.Exception"})):
            raise InvalidValue(
                "rules", retry, "a Retry without rules, on or never of its own: the rule's class decides"
            )
        checked.append(Rule(kind(_checked_error("rules", error)), retry))
    return tuple(checked)
