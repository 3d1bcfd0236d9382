"""What a run of the conformance suite found, as a value that can be written down and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from attrs import asdict, frozen

from taskweave.core.ids import SECOND, Micros

Level: TypeAlias = Literal["basic", "concurrent", "faults"]

LEVELS: Final[tuple[Level, ...]] = ("basic", "concurrent", "faults")
FORMAT: Final = 1  # of the document; fields are added, never renamed


@frozen
class Outcome:
    """How one check ended. `problem` is None where it held."""

    name: str
    level: Level
    proves: tuple[str, ...]
    took_us: Micros
    problem: str | None = None


@frozen
class Skipped:
    """What could not be asked: an ability, or a hook, that is not there."""

    ability: str
    reason: str


@frozen
class Certificate:
    """Which promises a store kept, check by check; `reached` is the highest level at which it kept all of them."""

    store: str
    backend: str
    taskweave: str
    wanted: Level
    seed: int
    outcomes: tuple[Outcome, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple([outcome for outcome in self.outcomes if outcome.problem is not None])

    @property
    def passed(self) -> bool:
        """Every check that was run held, and none of the wanted levels is missing."""
        return self.reached == self.wanted

    @property
    def reached(self) -> Level | None:
        """The highest level whose checks, and those below, were run and held."""
        reached: Level | None = None
        for level in LEVELS:
            of_level = [outcome for outcome in self.outcomes if outcome.level == level]
            if not of_level or any(outcome.problem is not None for outcome in of_level):
                break
            reached = level
        return reached

    def to_json(self) -> dict[str, Any]:
        """A document with stable names."""
        return {
            "format": FORMAT,
            "store": self.store,
            "backend": self.backend,
            "taskweave": self.taskweave,
            "level_wanted": self.wanted,
            "level_reached": self.reached,
            "passed": self.passed,
            "seed": self.seed,
            "checks": [
                {
                    "name": outcome.name,
                    "level": outcome.level,
                    "proves": list(outcome.proves),
                    "outcome": "passed" if outcome.problem is None else "failed",
                    "seconds": round(outcome.took_us / SECOND, 6),
                    "problem": outcome.problem,
                }
                for outcome in self.outcomes
            ],
            "skipped": [asdict(each) for each in self.skipped],
        }

    def summary(self) -> str:
        """For people: one line, then one for each problem and each thing that was skipped."""
        took = sum(outcome.took_us for outcome in self.outcomes) / SECOND
        failed = self.failed
        held = f"{len(self.outcomes) - len(failed)} of {len(self.outcomes)} checks hold"
        lines = [f"{self.store}: {held}, level {self.reached or 'none'} (of {self.wanted}), {took:.1f} s"]
        lines += [f"  failed   {outcome.name}: {outcome.problem}" for outcome in failed]
        lines += [f"  skipped  {each.ability}: {each.reason}" for each in self.skipped]
        return "\n".join(lines)


def by_guarantee(certificates: Sequence[Certificate]) -> dict[str, dict[str, tuple[int, int]]]:
    """Guarantee -> store -> how many checks held, of how many."""
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for certificate in certificates:
        for outcome in certificate.outcomes:
            for guarantee in outcome.proves:
                of_store = table.setdefault(guarantee, {})
                held, all_of_them = of_store.get(certificate.store, (0, 0))
                of_store[certificate.store] = (held + (outcome.problem is None), all_of_them + 1)
    return dict(sorted(table.items(), key=lambda entry: int(entry[0].removeprefix("I"))))
