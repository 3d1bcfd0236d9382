"""What a store need not be able to do: an ability is a protocol, and one that is missing is said to be."""

from __future__ import annotations

from typing import Any, Final

from taskweave import abc
from taskweave.testing.certificate import Skipped

ABILITIES: Final = {
    "Listens": "it cannot tell of changes; workers poll it",
    "Transacts": "its database cannot hold a task's own writes",
    "EnqueuesInside": "jobs cannot be enqueued inside a transaction of the caller",
}
HOOKS: Final = ("restart", "kill", "cut_before", "cut_after")


def abilities_missing(store: object) -> list[Skipped]:
    """The optional protocols of taskweave.abc that this store does not implement."""
    missing: list[Skipped] = []
    for name, reason in ABILITIES.items():
        protocol: Any = getattr(abc, name, None)
        if protocol is not None and not isinstance(store, protocol):
            missing.append(Skipped(name, reason))
    return missing


def hooks_missing(make_store: object) -> list[Skipped]:
    """The faults that this maker of stores cannot inject."""
    return [
        Skipped(f"make_store.{name}", "faults need it, and it is not there")
        for name in HOOKS
        if not callable(getattr(make_store, name, None))
    ]
