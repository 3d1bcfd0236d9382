"""A value of the core is what attrs would make of it, however it is made."""

from __future__ import annotations

from copy import copy, deepcopy

import pytest
from attrs import evolve, field, fields
from attrs.exceptions import FrozenInstanceError

from taskweave.core.job import Progress, Spec
from taskweave.core.values import frozen
from taskweave.core.verbs import Count, Lease


def test_it_has_its_class_its_fields_and_their_defaults() -> None:
    progress = Progress(0.5, note="half")
    assert type(progress) is Progress
    assert (progress.done, progress.total, progress.note) == (0.5, None, "half")
    assert [each.name for each in fields(Progress)] == ["done", "total", "note"]
    assert repr(progress) == "Progress(done=0.5, total=None, note='half')"
    assert repr(Count()) == "Count()"


def test_nothing_of_it_can_be_changed() -> None:
    lease = Lease("a", 1)
    with pytest.raises(FrozenInstanceError):
        lease.fence = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del lease.fence
    with pytest.raises(AttributeError):
        lease.other = 1  # type: ignore[attr-defined]
    assert lease == Lease("a", 1)


def test_it_equals_exactly_the_values_of_its_class_with_equal_fields() -> None:
    assert Lease("a", 1) == Lease("a", 1) != Lease("a", 2)
    assert Lease("a", 1) != ("a", 1)
    assert len({Lease("a", 1), Lease("a", 1), Lease("b", 1)}) == 2
    assert Count() == Count()


def test_it_can_be_copied_and_evolved() -> None:
    spec = Spec("a", "t", "q", b"", tags=(("k", "v"),))
    assert copy(spec) == deepcopy(spec) == evolve(spec) == spec
    assert evolve(spec, priority=3).priority == 3


@pytest.mark.parametrize("arguments", [(), ("a",), ("a", 1, 2)])
def test_wrong_arguments_are_refused_by_name(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="Lease"):
        Lease(*arguments)  # type: ignore[arg-type]


def test_a_class_that_needs_more_of_its_constructor_is_refused() -> None:
    class Listed:
        items: list[int] = field(factory=list[int])

    with pytest.raises(TypeError, match="Listed needs"):
        frozen(Listed)
