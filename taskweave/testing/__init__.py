"""Proofs for others' use: whether a store keeps its promises, and the operations with which to ask it.

Nothing here imports pytest; hypothesis is imported by `taskweave.testing.strategies` alone. Names are imported when
they are first used, so that the pytest plugin, which is loaded with every run of pytest, costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskweave.testing.certificate import Certificate as Certificate
    from taskweave.testing.certificate import Outcome as Outcome
    from taskweave.testing.comparing import Disagreement as Disagreement
    from taskweave.testing.pair import Pair as Pair
    from taskweave.testing.suite import check_store as check_store

__all__ = ["Certificate", "Disagreement", "Outcome", "Pair", "check_store"]

_HOMES = {
    "Certificate": "certificate",
    "Outcome": "certificate",
    "Disagreement": "comparing",
    "Pair": "pair",
    "check_store": "suite",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
