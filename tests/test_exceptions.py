"""Every error has a code of its own, names its facts, and says what to do; none fails while it is shown."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from package_source import ROOT, sources

from taskweave import exceptions
from taskweave.exceptions import (
    Abort,
    Cancel,
    ConfigurationError,
    Control,
    InvalidInput,
    InvalidName,
    InvalidValue,
    JobError,
    JobFailed,
    JobNotFound,
    MissingExtra,
    ResultTimeout,
    ResultTooLarge,
    RetryAfter,
    Snooze,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TaskweaveError,
    UnknownOption,
    UnknownTask,
)

CLASSES: list[type[TaskweaveError]] = [
    each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, TaskweaveError)
]
FAMILIES = [TaskweaveError, ConfigurationError, InvalidInput, JobError]
SHOWN_ELSEWHERE = {"traceback", "extra", "size", "limit", "seconds", "attempts", "applied"}  # numbers, or bounded apart
SAID_IN_WORDS = {ResultTooLarge: {"field", "problem"}}  # it is always the result, and always its size
REMEDY = re.compile(  # a message ends in what to do: one of these words stands in it
    r"\b(use|pass|run|install|choose|check|correct|name it|give|store the|register|wait|read|look|mend|make room|"
    r"upgrade|write|put|see|create|enqueue|retry|ask|did you mean|expected|raise|decide)\b",
    re.IGNORECASE,
)


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def sample(error: type[TaskweaveError], **given: object) -> TaskweaveError:
    return error(**{field.name: given.get(field.name, fact(field)) for field in attrs.fields(error)})


def fact(field: attrs.Attribute[Any]) -> object:
    plain: dict[str, object] = {
        "int": 4711,
        "float": 4.5,
        "tuple[str, ...]": (f"fact-{field.name}", "and another"),
    }
    return plain.get(str(field.type), f"fact-{field.name}")


@pytest.mark.proves(118)
def test_every_class_has_a_code_of_its_own() -> None:
    codes = [error.code for error in CLASSES]
    assert len(set(codes)) == len(codes) >= 40
    assert all(re.fullmatch(r"TW\d{4}", code) for code in codes)
    assert all("code" in vars(error) for error in CLASSES), "a code is never inherited"


@pytest.mark.proves(118)
@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_message_has_the_code_the_facts_and_the_remedy(error: type[TaskweaveError]) -> None:
    raised = sample(error)
    text = str(raised)
    assert text.startswith(f"[{error.code}] ")
    assert "\n" not in text
    assert len(text) < 400
    said = SAID_IN_WORDS.get(error, set()) | SHOWN_ELSEWHERE
    for field in () if error in FAMILIES else attrs.fields(error):
        if field.name not in said and field.default is attrs.NOTHING:
            assert f"fact-{field.name}" in text, f"{field.name} is not in the message"
    assert REMEDY.search(text) or "fact-remedy" in text, "the message does not say what to do"
    assert error.__doc__
    assert "Method generated" not in error.__doc__
    assert (error.__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.proves(118)
@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_numbers_that_decide_are_in_the_message(error: type[TaskweaveError]) -> None:
    names = {field.name for field in attrs.fields(error)}
    text = str(sample(error, size=123_456, limit=100_000, seconds=4.5, attempts=3))
    for name, shown in (("size", "123,456"), ("limit", "100,000"), ("seconds", "4.5 s"), ("attempts", "3 attempts")):
        assert name not in names or shown in text


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_carries_its_facts_through_a_raise(error: type[TaskweaveError]) -> None:
    given = sample(error)
    with pytest.raises(TaskweaveError) as caught:
        raise given
    for field in attrs.fields(error):
        assert getattr(caught.value, field.name) == getattr(given, field.name)
    assert repr(caught.value).startswith(error.__name__)


def test_the_planted_message_without_a_remedy_is_found() -> None:
    assert not REMEDY.search("[TW9999] the queue 'mail' was bad")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda error: error.__name__)
def test_families_are_caught_and_never_raised(family: type[TaskweaveError]) -> None:
    raised = re.compile(rf"\braise {family.__name__}\b|\breturn {family.__name__}\(")
    assert [path for path, text in sources().items() if raised.search(text)] == []
    assert any(issubclass(error, family) and error is not family for error in CLASSES)


def test_control_by_raising_is_no_error() -> None:
    for control in (Snooze("1s"), RetryAfter("1s", "busy"), Cancel("why"), Abort("why")):
        assert isinstance(control, Control)
        assert isinstance(control, Exception)
        assert not isinstance(control, TaskweaveError)
    assert Snooze("30s", "later").delay == "30s"
    assert RetryAfter(5, "busy").reason == "busy"
    assert (Cancel().reason, Abort("no").reason) == ("", "no")
    assert [each for each in CLASSES if issubclass(each, Control)] == []


def test_errors_are_what_python_expects_of_them_too() -> None:
    assert issubclass(InvalidValue, ValueError)
    assert issubclass(JobNotFound, LookupError)
    assert issubclass(ResultTimeout, TimeoutError)


def test_store_errors_say_whether_to_try_again() -> None:
    transient = {error.__name__ for error in CLASSES if issubclass(error, StoreError) and error.transient}
    assert transient == {"StoreUnavailable", "StoreFull"}
    assert StoreFull("memory://", "1,000,000 jobs").applied == "no"
    assert StoreUnavailable("sqlite:///a.db", "locked", "unknown").applied == "unknown"


def test_the_optional_facts() -> None:
    assert "did you mean 'queue'?" in str(UnknownOption("queu", "@app.task", "queue"))
    assert "see the reference" in str(UnknownOption("x", "@app.task"))
    assert "did you mean 'mail'?" in str(UnknownTask("mial", "mail"))
    assert "register it with app.task" in str(UnknownTask("mial"))
    assert "pip install 'taskweave[cli]'" in str(MissingExtra("the command line", "cli"))
    failed = JobFailed("id-1", "send_mail", "exhausted", 3, "OSError", "no route")
    assert str(failed).startswith("[TW1302] job id-1 of send_mail failed (exhausted, 3 attempts): OSError: no route; ")
    assert str(failed).endswith("see 'taskweave job show id-1'")
    assert ": None" not in str(JobFailed("id-1", "send_mail", "poison", 1))


@pytest.mark.parametrize("error", [InvalidValue, InvalidName])
def test_a_value_that_cannot_be_shown_does_not_hide_the_error(error: type[TaskweaveError]) -> None:
    assert "<Rude: __repr__ raised RuntimeError>" in str(sample(error, value=Rude()))
    long = str(sample(error, value="x" * 10_000))
    assert len(long) < 400
    assert "…" in long
    str(sample(error, value="\ud800\x00\u202e")).encode()


def test_errors_are_text_for_those_who_log_them() -> None:
    for error in CLASSES:
        str(sample(error)).encode()


def test_the_texts_lead_to_the_page() -> None:
    assert "docs/reference/errors.md" in (exceptions.__doc__ or "")
    assert (ROOT / "docs/reference/errors.md").exists()
