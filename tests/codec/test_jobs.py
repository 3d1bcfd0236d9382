"""A job's line: the same for the same job, another for another, and readable back; everything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from taskweave._codec.jobs import job_of, line_of
from taskweave.core.job import TERMINAL, Attempt, End, Failure, Hold, Job, Life, Progress, Settled, Spec, State, Verb
from taskweave.core.moving import parked
from taskweave.core.unique import UniqueKey
from taskweave.exceptions import DecodeError

texts = st.text(max_size=8) | st.sampled_from(["", "\ud800", "\x00", "é\U0001f40d"])
maybe = st.none() | texts
numbers = st.integers(0, 1 << 53)
data = st.binary(max_size=12) | st.sampled_from([b"", b"[[],{}]", b"\xff"])
failures = st.builds(Failure, texts, texts, texts, st.lists(texts, max_size=2).map(tuple))
attempts = st.builds(
    Attempt, st.sampled_from(Verb), numbers, numbers, texts, numbers, numbers, st.none() | failures, maybe
)
ends = st.builds(End, numbers, st.none() | numbers, st.none() | data, maybe, maybe, maybe, st.none() | failures)
keys = st.builds(UniqueKey, texts, st.sampled_from(["finished", "started"])) | st.builds(
    UniqueKey, texts, st.none(), numbers, st.sampled_from(["return", "replace", "raise"])
)
holds = st.builds(Hold, texts, texts, numbers, numbers, st.none() | st.builds(Progress, st.floats()), maybe)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    state = draw(st.sampled_from(State))
    return Life(
        state,
        draw(numbers),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 99)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 3)),
        draw(holds) if state is State.RUNNING else None,
        draw(st.none() | st.builds(Settled, numbers, st.integers(0, (1 << 63) - 1))),
        tuple(draw(st.lists(attempts, max_size=2))),
        draw(ends) if state in TERMINAL else None,
    )


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    tags = draw(st.dictionaries(texts, texts, max_size=2))
    return Spec(
        draw(texts),
        draw(texts),
        draw(texts),
        draw(data),
        draw(texts),
        draw(st.integers(1, 9)),
        draw(st.integers(-9, 9)),
        draw(numbers),
        draw(st.none() | numbers),
        draw(st.none() | numbers),
        draw(st.none() | numbers),
        draw(st.integers(1, 9)),
        at_most_once=draw(st.booleans()),
        unique=draw(st.none() | keys),
        result_ttl_us=draw(numbers),
        tags=tuple(tags.items()),
        trace=draw(maybe),
    )


jobs = st.builds(Job, specs(), st.integers(1, 99), numbers, numbers, st.none() | numbers, lives())


@given(job=jobs)
@settings(max_examples=300, deadline=None)
def test_a_line_is_read_back_as_the_job_that_it_was(job: Job) -> None:
    line = line_of(job)
    assert line.isascii()
    assert "\n" not in line
    assert job_of(line, "line 1") == evolve(parked(job), seq=0)
    assert line_of(job_of(line, "line 1")) == line


@given(job=jobs, seq=st.integers(1, 99))
@settings(max_examples=50, deadline=None)
def test_what_only_one_store_can_mean_is_left_out(job: Job, seq: int) -> None:
    assert line_of(evolve(job, seq=seq)) == line_of(job)
    hold = job.life.hold
    if hold is not None:
        other = evolve(job, life=evolve(job.life, hold=evolve(hold, claim_id="other", progress=None)))
        assert line_of(other) == line_of(job)


END = End(5, 4, b"result", None, "cause", "reason", Failure("E", "m", "t", ("E",)))
ENTRY = Attempt(Verb.RETRY, 1, 1, "m", 3, 4, Failure("E", "m"), "why")
SPEC = Spec(
    "id", "t", "q", b"{}", "raw", 2, 3, 4, 5, 6, 7, 8, 9, False, UniqueKey("k"), 10, 11, 12, (("a", "b"),), "trace"
)
WHOLE = Job(SPEC, 7, 1, 2, 3, Life(State.FAILED, 2, 1, 2, 1, 1, None, Settled(1, 9), (ENTRY,), END))


@pytest.mark.parametrize("name", [each.name for each in fields(Spec)])
def test_every_field_of_a_spec_is_in_the_line(name: str) -> None:
    assert name in json.loads(line_of(WHOLE))["spec"]


@pytest.mark.parametrize("name", [each.name for each in fields(Life) if each.name != "hold"])
def test_every_field_of_a_life_is_in_the_line(name: str) -> None:
    assert name in json.loads(line_of(WHOLE))["life"]


def changed(**parts: Any) -> str:
    """The line of WHOLE with other values at a.b paths; Ellipsis removes one."""
    document = json.loads(line_of(WHOLE))
    for path, value in parts.items():
        *folders, name = path.split("__")
        place = document
        for folder in folders:
            place = place[folder]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "Expecting value"),
        ("[]", "not an object"),
        ("{}", "Job lacks its created_at"),
        ("[" * 100_000, "nested"),
        (changed(spec__task=...), "Spec lacks its task"),
        (changed(spec__priority=...), "Spec lacks its priority"),
        (changed(spec__priority=1.0), "not of type int"),
        (changed(spec__priority=True), "not of type int"),
        (changed(spec__priority="3"), "not of type int"),
        (changed(spec__at_most_once=0), "not of type bool"),
        (changed(spec__queue=None), "not of type str"),
        (changed(spec__color="red"), "Spec has no color"),
        (changed(spec__tags=[["a"]]), "not a list of 2"),
        (changed(spec__tags={"a": "b"}), "not a list"),
        (changed(spec__payload=[1]), "neither text nor base64"),
        (changed(spec__payload={"base64": "??"}), "base64"),
        (changed(spec__unique__until="never"), "none of finished, started"),
        (changed(life__state="asleep"), "asleep"),
        (changed(life__hold={}), "Life has no hold"),
        (changed(life__end__finished_at=...), "End lacks its finished_at"),
        (changed(seq=3), "Job has no seq"),
    ],
)
def test_what_is_no_job_is_refused_with_its_place(line: str, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem) as caught:
        job_of(line, "line 3")
    assert caught.value.field == "line 3"


@given(text=st.text() | st.recursive(st.none() | texts, lambda inner: st.dictionaries(texts, inner)).map(json.dumps))
def test_any_text_is_a_job_or_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        job_of(text, "line 1")
