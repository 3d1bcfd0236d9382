"""What a store accepts, at the edges of every bound."""

from __future__ import annotations

import pytest
from attrs import evolve

from taskweave.core.bounds import (
    ATTEMPTS_MAX,
    BATCH_MAX,
    INSTANT_MAX,
    KEY_CHARS_MAX,
    NAME_CHARS_MAX,
    PRIORITY_MAX,
    PRIORITY_MIN,
    TAGS_MAX,
    VERSION_MAX,
    check_batch,
    check_change,
    check_name,
    check_spec,
)
from taskweave.core.ids import SPAN_MAX_US
from taskweave.core.job import Spec
from taskweave.core.unique import UniqueKey
from taskweave.exceptions import DuplicateId, InvalidInput, InvalidName, InvalidValue, PayloadTooLarge

SPEC = Spec("id", "task", "default", b"{}")
TEN_YEARS = SPAN_MAX_US


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"priority": PRIORITY_MIN},
        {"priority": PRIORITY_MAX},
        {"delay_us": TEN_YEARS},
        {"at": 0},
        {"at": INSTANT_MAX},
        {"expires_in_us": 1},
        {"expires_in_us": TEN_YEARS},
        {"timeout_us": 1},
        {"timeout_us": TEN_YEARS},
        {"max_attempts": ATTEMPTS_MAX},
        {"max_lost": ATTEMPTS_MAX},
        {"at_most_once": True},
        {"result_ttl_us": 0, "retention_us": 0, "retention_failed_us": 0},
        {"version": VERSION_MAX},
        {"task": "t" * NAME_CHARS_MAX, "queue": "q" * NAME_CHARS_MAX},
        {"task": "Bücher.senden ✓ 発送"},
        {"payload": b"x" * 1_024},
        {"tags": tuple((f"k{n}", "v") for n in range(TAGS_MAX))},
        {"unique": UniqueKey("k" * KEY_CHARS_MAX)},
        {"unique": UniqueKey("k", until=None, within_us=1)},
    ],
    ids=lambda change: ", ".join(change) or "plain",
)
def test_the_edges_are_inside(change: dict[str, object]) -> None:
    check_spec(evolve(SPEC, **change), payload_bytes_max=1_024)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("priority", {"priority": PRIORITY_MIN - 1}),
        ("priority", {"priority": PRIORITY_MAX + 1}),
        ("priority", {"priority": 1.0}),
        ("priority", {"priority": "9"}),
        ("delay", {"delay_us": -1}),
        ("delay", {"delay_us": TEN_YEARS + 1}),
        ("delay", {"delay_us": 1.5}),
        ("delay", {"delay_us": float("nan")}),
        ("delay", {"delay_us": None}),
        ("delay", {"delay_us": 1, "at": 5}),
        ("at", {"at": -1}),
        ("at", {"at": INSTANT_MAX + 1}),
        ("at", {"at": 1.0}),
        ("deadline", {"expires_in_us": 0}),
        ("deadline", {"expires_in_us": TEN_YEARS + 1}),
        ("deadline", {"expires_in_us": "1h"}),
        ("timeout", {"timeout_us": 0}),
        ("timeout", {"timeout_us": -5}),
        ("timeout", {"timeout_us": 10**30}),
        ("timeout", {"timeout_us": True}),
        ("max_attempts", {"max_attempts": 0}),
        ("max_attempts", {"max_attempts": ATTEMPTS_MAX + 1}),
        ("max_attempts", {"max_attempts": 2, "at_most_once": True}),
        ("max_lost", {"max_lost": 0}),
        ("result_ttl", {"result_ttl_us": -1}),
        ("retention", {"retention_us": TEN_YEARS + 1}),
        ("retention", {"retention_failed_us": -1}),
        ("version", {"version": 0}),
        ("version", {"version": VERSION_MAX + 1}),
        ("version", {"version": 10**30}),
        ("payload", {"payload": "{}"}),
        ("payload", {"payload": None}),
        ("tags", {"tags": tuple((f"k{n}", "v") for n in range(TAGS_MAX + 1))}),
        ("tags", {"tags": (("k", "1"), ("k", "2"))}),
        ("unique key", {"unique": UniqueKey("")}),
        ("unique key", {"unique": UniqueKey("k" * (KEY_CHARS_MAX + 1))}),
        ("unique key", {"unique": UniqueKey("a\x00b")}),
        ("unique key", {"unique": UniqueKey(5)}),  # type: ignore[arg-type]
        ("unique", {"unique": UniqueKey("k", within_us=1)}),
        ("unique", {"unique": UniqueKey("k", until=None)}),
        ("within", {"unique": UniqueKey("k", until=None, within_us=0)}),
    ],
    ids=repr,
)
def test_past_the_edges_is_refused_by_the_name_of_the_field(field: str, change: dict[str, object]) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_spec(evolve(SPEC, **change))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("task", {"task": ""}),
        ("task", {"task": ["send"]}),
        ("queue", {"queue": "a\nb"}),
        ("queue", {"queue": None}),
        ("tag", {"tags": (("", "v"),)}),
        ("tag k", {"tags": (("k", "\x1b[31m"),)}),
        ("tag k", {"tags": (("k", 5),)}),
    ],
    ids=repr,
)
def test_names_are_refused_by_the_name_of_the_field(field: str, change: dict[str, object]) -> None:
    with pytest.raises(InvalidName) as caught:
        check_spec(evolve(SPEC, **change))
    assert caught.value.field == field


def test_a_payload_over_the_limit_says_both_sizes() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        check_spec(evolve(SPEC, payload=b"x" * 11), payload_bytes_max=10)
    assert (caught.value.size, caught.value.limit) == (11, 10)


def test_a_batch_with_the_same_id_twice_is_refused() -> None:
    check_batch((SPEC, evolve(SPEC, id="other")))
    with pytest.raises(DuplicateId):
        check_batch((SPEC, evolve(SPEC, task="another")))


@pytest.mark.parametrize("id", ["", "i" * 201, "a\x00b", "\ud800", 7, None, ["id"]], ids=ascii)
def test_an_id_that_not_every_store_can_keep_is_refused(id: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_batch((evolve(SPEC, id=id),))
    assert caught.value.field == "id"


def test_a_batch_has_a_bound() -> None:
    with pytest.raises(InvalidValue, match="batch is 10001"):
        check_batch((SPEC,) * (BATCH_MAX + 1))
    check_batch(())


def test_the_bounds_of_a_change_are_those_of_a_spec() -> None:
    check_change(None, None)
    check_change(PRIORITY_MAX, TEN_YEARS)
    for priority, delay in ((PRIORITY_MAX + 1, None), (None, -1), (True, None), (None, 0.5)):
        with pytest.raises(InvalidInput):
            check_change(priority, delay)  # type: ignore[arg-type]


def test_a_name_comes_back_as_it_is() -> None:
    assert check_name("queue", "mail") == "mail"
