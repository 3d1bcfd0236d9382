"""The list of checks: each has a name, the guarantees that it helps to prove, and a function of a Pair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from taskweave.testing.pair import Pair

MODULES: Final = (
    *("enqueuing", "refusing", "claiming", "fencing", "leasing", "settling", "retrying", "spawning", "operating"),
    *("queues", "deduplicating", "upkeep", "reading", "naming", "texts", "moving", "walking"),
)

Run: TypeAlias = Callable[[Pair], Awaitable[None]]


class Named(Protocol):
    """A function with a name, as `async def` makes it."""

    __name__: str

    def __call__(self, pair: Pair) -> Awaitable[None]: ...


@frozen
class Check:
    """One property of a store. `proves` are ids of the guarantees (docs/explanation/guarantees.md)."""

    name: str
    proves: tuple[str, ...]
    run: Run


_found: dict[str, Check] = {}


def proves(*guarantees: str) -> Callable[[Named], Named]:
    """Makes a function of a Pair a check, with the function's name."""

    def register(run: Named) -> Named:
        add(run.__name__, guarantees, run)
        return run

    return register


def add(name: str, guarantees: tuple[str, ...], run: Run) -> None:
    """One more check, for those that are made from a table. Raises ValueError for a name that is taken."""
    if name in _found:
        raise ValueError(f"two checks are named {name}")
    _found[name] = Check(name, guarantees, run)


def checks() -> tuple[Check, ...]:
    """All checks, in the order in which they are run."""
    for module in MODULES:
        import_module(f"taskweave.testing.checks.{module}")
    return tuple(_found.values())
