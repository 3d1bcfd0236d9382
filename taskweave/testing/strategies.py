"""Hypothesis strategies for what may be asked of a store: the one module that imports hypothesis.

@given(ops=operations())              any op that needs no lease
@given(data=st.data())                and then Drawn(data.draw) as the chooser of a Requests, which knows the leases
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from taskweave.core.job import Spec
from taskweave.core.verbs import Op
from taskweave.testing.operations import IDS, KINDS, STEPS_US, Requests, spec

T = TypeVar("T")

steps = st.sampled_from(STEPS_US)  # spans of time between two ops, in microseconds


class Drawn:
    """A chooser whose choices Hypothesis makes, and shrinks."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def one_of(self, values: Sequence[T]) -> T:
        chosen: T = self._draw(st.sampled_from(values))
        return chosen

    def number(self, least: int, most: int) -> int:
        chosen: int = self._draw(st.integers(least, most))
        return chosen


def specs(queues: Sequence[str] = ("a", "b")) -> st.SearchStrategy[Spec]:
    """Jobs of every kind under few ids, so that ids, keys and instants meet."""
    return st.builds(spec, st.sampled_from(IDS), st.integers(0, len(KINDS) - 1), st.sampled_from(queues))


@st.composite
def operations(draw: st.DrawFn) -> Op[Any]:
    """Any op of a client that holds no lease."""
    return Requests(Drawn(draw)).next()
