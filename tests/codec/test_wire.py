"""The document on the wire: strict both ways, and total on whatever bytes arrive."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskweave._codec import wire
from taskweave.exceptions import DecodeError

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def same(one: object, other: object) -> bool:
    """Equal, and of equal types inside: 1 == 1.0 == True would hide a conversion."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


@given(VALUES)
def test_plain_data_comes_back_as_it_was(value: object) -> None:
    assert same(wire.read(wire.write(value), "value"), value)


@given(VALUES)
def test_the_document_is_ordinary_json(value: object) -> None:
    assert same(json.loads(wire.write(value)), value)


@given(VALUES, st.data())
def test_mutated_documents_give_a_value_or_a_decode_error(value: object, data: st.DataObject) -> None:
    document = bytearray(wire.write(value))
    for _ in range(data.draw(st.integers(1, 4))):
        if document:
            document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.read(bytes(document), "payload")
    except DecodeError:
        return


@given(st.binary(max_size=200))
def test_random_bytes_give_a_value_or_a_decode_error(document: bytes) -> None:
    try:
        found = wire.read(document, "payload")
    except DecodeError:
        return
    assert same(wire.read(wire.write(found), "payload"), found)


@pytest.mark.parametrize(
    "document",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b'{"a":1,"a":2}',
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b"1" * 5_000,
        b"",
        b"{'a': 1}",
        b"[1,]",
        b"01",
        b"\xff",
        b"1 2",
    ],
)
def test_bad_documents_are_refused(document: bytes) -> None:
    with pytest.raises(DecodeError):
        wire.read(document, "payload")


@pytest.mark.parametrize(
    "document", [b"[" * 1_000_000, b'"' + b"\\u0041" * 160_000, b"[0," * 300_000, b"9" * 1_000_000]
)
def test_a_megabyte_of_malice_is_refused_at_once(document: bytes) -> None:
    began = time.process_time()
    with pytest.raises(DecodeError):
        wire.read(document, "payload")
    assert time.process_time() - began < 0.5  # 50 ms on the machine of the design; a loaded one gets ten times that


def test_depth_is_counted_the_same_in_both_directions() -> None:
    value: object = 1
    for _ in range(wire.DEPTH_MAX):
        value = [value]
    assert wire.read(wire.write(value), "value") == value
    with pytest.raises(wire.Unwritable, match="nested"):
        wire.write([value])
    with pytest.raises(DecodeError, match="nested"):
        wire.read(b"[" + wire.write(value) + b"]", "value")


def test_many_brackets_side_by_side_are_not_depth() -> None:
    value = [[] for _ in range(500)]
    assert wire.read(wire.write(value), "value") == value


def test_brackets_in_text_are_not_depth() -> None:
    assert wire.read(wire.write("[" * 500), "value") == "[" * 500


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "\ud800", {"\udc00": 1}, object(), b"", [10**5000], {1, 2}]
)
def test_what_has_no_document_is_unwritable(value: object) -> None:
    with pytest.raises(wire.Unwritable):
        wire.write([value])


def test_a_cycle_is_unwritable() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(wire.Unwritable, match="contains itself"):
        wire.write(value)


@settings(max_examples=30)
@given(st.integers(2**53, 2**200))
def test_large_integers_survive(number: int) -> None:
    assert wire.read(wire.write([number, -number]), "value") == [number, -number]
