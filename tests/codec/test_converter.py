"""Annotations beyond plain data: values come back with their type, and what does not fit is refused with its path."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskweave._codec.kinds import unstorable
from taskweave._codec.plain import Mismatch
from taskweave._codec.signature import Shape
from taskweave._codec.wire import read, write


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Suit(StrEnum):
    HEARTS = "hearts"


class Corner(Enum):
    HERE = (0, 0)
    THERE = (1, 1)


@attrs.frozen
class Point:
    x: int
    y: float = 0.0


@attrs.define
class Line:
    points: list[Point]
    colour: Colour = Colour.RED
    note: str | None = None


@dataclass
class Order:
    id: UUID
    placed: datetime
    lines: dict[str, Decimal] = field(default_factory=dict)


class Movie(TypedDict):
    title: str
    year: int


UserId = NewType("UserId", int)
AWARE = st.datetimes(
    timezones=st.just(UTC)
    | st.builds(
        timezone,
        st.timedeltas(timedelta(hours=-12), timedelta(hours=12)).map(
            lambda span: timedelta(minutes=span // timedelta(minutes=1))
        ),
    )
)
TEXT = st.text(st.characters(exclude_categories=("Cs",)))
POINTS = st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))

CASES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (datetime, AWARE),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary()),
    (Path, st.from_regex(r"[a-z]+(/[a-z]+){0,3}", fullmatch=True).map(Path)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Suit, st.sampled_from(Suit)),
    (Corner, st.sampled_from(Corner)),
    (tuple[int, str], st.tuples(st.integers(), TEXT)),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (tuple[()], st.just(())),
    (set[int], st.sets(st.integers())),
    (frozenset[str], st.frozensets(TEXT)),
    (dict[int, str], st.dictionaries(st.integers(), TEXT)),
    (dict[str, datetime], st.dictionaries(TEXT, AWARE)),
    (dict[UUID, list[Point]], st.dictionaries(st.uuids(), st.lists(POINTS, max_size=3), max_size=3)),
    (Point, POINTS),
    (Line, st.builds(Line, st.lists(POINTS), st.sampled_from(Colour), st.none() | TEXT)),
    (
        Order,
        st.builds(Order, st.uuids(), AWARE, st.dictionaries(TEXT, st.decimals(allow_nan=False, allow_infinity=False))),
    ),
    (Movie, st.fixed_dictionaries({"title": TEXT, "year": st.integers()})),
    (Point | None, st.none() | POINTS),
    (int | Point | list[Point], st.integers() | POINTS | st.lists(POINTS, min_size=1)),
    (Annotated[datetime, "when"], AWARE),
    (UserId, st.integers()),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    (list[tuple[int, Colour]], st.lists(st.tuples(st.integers(), st.sampled_from(Colour)))),
]


@pytest.mark.parametrize(("annotation", "values"), CASES, ids=[str(case[0]) for case in CASES])
def test_values_come_back_with_their_type(annotation: Any, values: st.SearchStrategy[Any]) -> None:
    assert unstorable(annotation) is None
    shape = Shape(annotation)

    @given(values)
    def check(value: Any) -> None:
        back = shape.load(read(write(shape.dump(value)), "value"))
        assert back == value
        assert type(back) is type(value)

    check()


REFUSED: list[tuple[Any, Any, str]] = [
    (datetime, datetime(2026, 1, 1), "no time zone"),
    (datetime, "2026-01-01T00:00:00+00:00", "expected datetime"),
    (date, datetime(2026, 1, 1, tzinfo=UTC), "expected date"),
    (UUID, "00000000-0000-0000-0000-000000000000", "expected UUID"),
    (Decimal, Decimal("NaN"), "not finite"),
    (Decimal, 1.5, "expected Decimal"),
    (bytes, "text", "expected bytes"),
    (bytes, bytearray(b"x"), "expected bytes"),
    (Colour, "red", "expected Colour"),
    (tuple[int, str], (1, 2), "[1]: expected str"),
    (tuple[int, str], (1,), "1 items"),
    (tuple[int, ...], [1], "expected tuple"),
    (set[int], [1], "expected set"),
    (set[int], {True}, "[0]: expected int"),
    (dict[int, str], {"1": "a"}, "['1']: expected int"),
    (Point, {"x": 1}, "expected Point"),
    (Point, Point("1"), ".x: expected int"),  # type: ignore[arg-type]
    (Line, Line([Point(1), Point(2, True)]), ".points[1].y: expected float"),
    (Order, Order(UUID(int=1), datetime(2026, 1, 1)), ".placed"),
    (datetime | str, "2026-01-01T00:00:00+00:00", "would come back as datetime"),
    (Point | None, 3, "expected Point"),
    (Literal[1], True, "expected one of 1"),
]


@pytest.mark.parametrize(("annotation", "value", "problem"), REFUSED)
def test_what_does_not_have_its_type_is_refused_with_its_path(annotation: Any, value: Any, problem: str) -> None:
    with pytest.raises(Mismatch) as caught:
        Shape(annotation).dump(value)
    assert problem in f"{caught.value.path}: {caught.value.problem}"


UNREADABLE: list[tuple[Any, Any, str]] = [
    (datetime, "yesterday", "expected datetime"),
    (datetime, "2026-01-01T00:00:00", "no time zone"),
    (datetime, 5, "expected datetime"),
    (timedelta, 10**30, "expected timedelta"),
    (timedelta, True, "expected timedelta"),
    (UUID, "x", "expected UUID"),
    (Decimal, "one", "expected Decimal"),
    (Decimal, "sNaN", "not finite"),
    (bytes, "***", "expected bytes"),
    (Colour, "green", "expected one of"),
    (Corner, "NOWHERE", "expected one of"),
    (list[Point], {"0": {}}, "as a list"),
    (list[Point], [{"x": 1}, {"x": "1"}], "[1].x: expected int"),
    (list[Point], [{"y": 1.0}], "[0].x: it is missing"),
    (Point, {"x": 1, "z": 1}, "no field 'z'"),
    (Point, [1], "[]: "),
    (set[int], "abc", "as a list"),
    (dict[int, str], [[1, "a"], [1, "b"]], "twice"),
    (dict[int, str], [[1]], "pairs"),
    (Movie, {"title": "x"}, "year"),
]


@pytest.mark.parametrize(("annotation", "document", "problem"), UNREADABLE)
def test_documents_that_do_not_fit_are_refused(annotation: Any, document: Any, problem: str) -> None:
    with pytest.raises(Mismatch) as caught:
        Shape(annotation).load(document)
    if problem != "[]: ":
        assert problem in f"{caught.value.path}: {caught.value.problem}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["x", "y", "points"]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("annotation", [case[0] for case in CASES], ids=[str(case[0]) for case in CASES])
def test_loading_any_json_gives_a_value_or_a_mismatch(annotation: Any) -> None:
    shape = Shape(annotation)

    @given(JSON)
    def check(document: Any) -> None:
        try:
            value = shape.load(document)
        except Mismatch:
            return
        assert shape.load(shape.dump(value)) == value

    check()


@attrs.frozen
class Picky:
    n: int = attrs.field()

    @n.validator
    def _check(self, _: Any, value: int) -> None:
        if value < 0:
            raise ValueError("negative")


def test_a_users_validator_refuses_in_its_own_words() -> None:
    with pytest.raises(Mismatch, match="ValueError: negative"):
        Shape(Picky).load({"n": -1})


class Opaque: ...


@attrs.frozen
class Holder:
    inside: list[Opaque]


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [(Opaque, "Opaque"), (Holder, "Holder.inside"), (list[Opaque], "Opaque"), (complex, "complex"), (type, "type")],
)
def test_annotations_without_a_form_are_told_beforehand(annotation: Any, problem: str) -> None:
    assert problem in (unstorable(annotation) or "")


@attrs.frozen
class Tree:
    value: int
    children: list[Tree] = attrs.field(factory=list)


def test_classes_may_refer_to_themselves() -> None:
    tree = Tree(1, [Tree(2), Tree(3, [Tree(4)])])
    assert unstorable(Tree) is None
    assert Shape(Tree).load(Shape(Tree).dump(tree)) == tree


def test_plain_tasks_never_import_the_converter() -> None:
    program = (
        "import sys\n"
        "from taskweave import App\n"
        "app = App('memory://')\n"
        "def f(a: int, b: list[str], c: dict[str, float] | None = None, *d: object) -> str | None: ...\n"
        "task = app.task(f, name='f')\n"
        "call = task.call(1, ['x'], c={'y': 1.5})\n"
        "task.work.codec.decode(call.payload, 'json', 1)\n"
        "task.work.codec.decode_result(task.work.codec.encode_result('r'))\n"
        "assert 'cattrs' not in sys.modules and 'cattr' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
