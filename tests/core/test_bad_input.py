"""A corpus of bad input: each entry is refused with a typed error that names the field, and can be printed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from taskweave.core.bounds import check_name
from taskweave.core.ids import span_us
from taskweave.exceptions import InvalidInput, InvalidName, InvalidValue

NAMES: list[object] = [
    "",
    "\x00",
    "a\x00b",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "a\n",
    "\x1b[2J",
    "a\x7f",
    "a\x85b",  # next line
    "a\xa0b",  # no-break space: looks like another name
    "a\xadb",  # soft hyphen
    "a\u200bb",  # zero width space
    "a\u200db",  # zero width joiner
    "\u200eabc",  # left-to-right mark
    "\u200fabc",  # right-to-left mark
    "abc\u202etxt",  # right-to-left override
    "a\u2028b",  # line separator
    "a\u2029b",  # paragraph separator
    "a\u2066b",  # left-to-right isolate
    "\ufeffabc",  # byte order mark
    "\ufffe",  # not a character
    "\ue000",  # private use
    "\ud800",  # lone surrogates
    "a\udfffb",
    "\U000e0001",  # language tag
    "q" * 201,
    "ü" * 201,
    "😀" * 201,
    "q" * 10_000_000,
    b"mail",
    None,
    True,
    0,
    1.5,
    float("nan"),
    ["mail"],
    {"mail": 1},
    object(),
]

SPANS: list[object] = [
    "",
    " ",
    "5",
    "s",
    "5 s",
    " 5s",
    "5s ",
    "5s\n",
    "-5s",
    "+5s",
    "5S",
    "5sec",
    "5 minutes",
    ".5s",
    "5.s",
    "1.2.3s",
    "1e3s",
    "1_000s",
    "1,5s",
    "5s;",
    "5s5",
    "PT5S",
    "00:05",
    "inf",
    "nan",
    "infs",
    "\u0665s",  # an Arabic-Indic five
    "\uff15s",  # a full-width five
    "\u00b2s",  # a superscript two
    "5\x00s",
    "5\ud800",
    "9" * 64 + "s",
    "9" * 100_000 + "s",
    "1s" * 40,
    "3661d",
    "600w",
    b"5s",
    -1,
    -0.5,
    -1e-9,
    -1e300,
    float("-inf"),
    float("inf"),
    float("nan"),
    1e300,
    10**400,
    -(10**400),
    True,
    False,
    None,
    timedelta(microseconds=-1),
    timedelta(days=-1),
    timedelta.max,
    timedelta.min,
    timedelta(days=3_660, microseconds=1),
    datetime(2026, 1, 1),
    datetime(2026, 1, 1, tzinfo=UTC),
    Decimal("5"),
    Decimal("NaN"),
    Fraction(5),
    5j,
    [5],
    {"seconds": 5},
    object(),
]


def shown(value: object) -> str:
    return "object" if type(value) is object else ascii(value)[:40]  # without its address: ids of tests stay the same


def test_the_corpus_is_large() -> None:
    assert len(NAMES) + len(SPANS) >= 60


@pytest.mark.parametrize("name", NAMES, ids=shown)
def test_a_bad_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name("queue", name)  # type: ignore[arg-type]
    told(caught.value, "queue")


@pytest.mark.parametrize("span", SPANS, ids=shown)
def test_a_bad_span_is_refused(span: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        span_us(span, "timeout")  # type: ignore[arg-type]
    told(caught.value, "timeout")


@pytest.mark.parametrize("span", [0, "0s", -0.0, 0.4e-6, "0.4us", timedelta(0)], ids=shown)
def test_nothing_is_too_little_where_something_is_needed(span: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        span_us(span, "timeout", least=1)  # type: ignore[arg-type]
    told(caught.value, "timeout")


def told(error: InvalidInput, field: str) -> None:
    """The text names the field, is bounded, and can be written anywhere."""
    text = str(error)
    assert f"] {field} " in text
    assert len(text) < 400
    assert text.encode()
    assert text.isprintable()
