"""Spans and ids: exact, and refused by the name of the field."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskweave.core.ids import DAY, HOUR, MILLISECOND, MINUTE, SECOND, SPAN_MAX_US, Duration, span_us, uuid7
from taskweave.exceptions import InvalidValue

PROFILE = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("30s", 30 * SECOND),
        ("1h30m", HOUR + 30 * MINUTE),
        ("250ms", 250 * MILLISECOND),
        ("7us", 7),
        ("1w2d", 9 * DAY),
        ("1.5m", 90 * SECOND),
        ("1.005s", 1_005_000),
        ("0.29s", 290_000),
        ("0s", 0),
        (0, 0),
        (30, 30 * SECOND),
        (0.25, 250 * MILLISECOND),
        (1.005, 1_005_000),
        (1e-6, 1),
        (timedelta(hours=2, microseconds=1), 2 * HOUR + 1),
        (timedelta.resolution, 1),
        (timedelta(days=3_660), SPAN_MAX_US),
        ("3660d", SPAN_MAX_US),
        (-0.0, 0),
    ],
    ids=repr,
)
def test_what_users_write(value: Duration, micros: int) -> None:
    assert span_us(value, "timeout") == micros


def test_at_least() -> None:
    assert span_us("1us", "timeout", least=1) == 1
    with pytest.raises(InvalidValue, match="between 1 s and ten years"):
        span_us("999ms", "timeout", least=SECOND)


@PROFILE
@given(st.integers(0, SPAN_MAX_US))
def test_a_whole_number_of_microseconds_is_kept_in_every_form(micros: int) -> None:
    assert span_us(timedelta(microseconds=micros), "f") == micros
    assert span_us(f"{micros}us", "f") == micros
    assert span_us(f"{micros // SECOND}s{micros % SECOND}us", "f") == micros
    assert span_us(micros / SECOND, "f") == micros


@PROFILE
@given(st.integers(0, 2**48 * 1_000 - 1), st.integers(0, 2**80 - 1))
def test_a_uuid7_is_one_and_carries_its_instant(wall: int, bits: int) -> None:
    text = uuid7(wall, bits)
    made = uuid.UUID(text)
    assert str(made) == text
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == wall // 1_000
    assert (made.int >> 66) & 0x3FF == wall % 1_000


@PROFILE
@given(st.integers(0, 2**47 * 1_000), st.integers(1, 10**9), st.integers(0, 2**76 - 1), st.integers(0, 2**76 - 1))
def test_ids_sort_by_their_microsecond(wall: int, later: int, first: int, second: int) -> None:
    assert uuid7(wall, first) < uuid7(wall + later, second)


@PROFILE
@given(st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1))
def test_all_the_random_bits_count(first: int, second: int) -> None:
    low = 2**64 - 1  # 2 bits below the variant's half, 62 in it
    assert (uuid7(5, first) == uuid7(5, second)) == (first & low == second & low)
