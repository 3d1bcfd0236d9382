"""Unique keys: at most one job in the scope, freed in the step that leaves it, and equal keys for equal values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from queue_laws import by_id, keys_are_unique

from taskweave.core import life as lives
from taskweave.core.bounds import KEY_CHARS_MAX
from taskweave.core.job import TERMINAL, UNSTARTED, Job, Spec, State, Verb
from taskweave.core.queue import Queue, enqueue
from taskweave.core.queue.table import Row, Table
from taskweave.core.unique import Unique, UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Change,
    DeleteJobs,
    Enqueue,
    Exchange,
    How,
    Maintain,
    RetryJobs,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import InvalidValue, NotSerializable, UniqueConflict

WINDOW_US = 700
LEASE_US = 1_000
WALK = settings(max_examples=80, stateful_step_count=30, derandomize=True, deadline=None)
HUNT = settings(WALK, phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

SCOPES = (("finished", None), ("started", None), (None, WINDOW_US))
keys = st.builds(
    lambda key, scope, on_conflict: UniqueKey(key, scope[0], scope[1], on_conflict),
    st.sampled_from("kkl"),
    st.sampled_from(SCOPES),
    st.sampled_from(["return", "replace", "replace", "raise"]),
)


class UniqueWalk(RuleBasedStateMachine):
    """Enqueues are judged by the job that stands in their way before; there is no other book of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.now = 10_000
        self.ids = 0

    def jobs(self) -> dict[str, Job]:
        return by_id(self.queue.apply(TakeDump(), self.now))

    def holder(self, key: str) -> Job | None:
        """By the words of the guarantee, from the rows alone."""
        held = [job for job in self.jobs().values() if job.spec.unique and job.spec.unique.key == key]
        held = [job for job in held if in_scope(job, self.now)]
        assert len(held) <= 1, "I13: two jobs in one scope"
        return held[0] if held else None

    @rule(key=keys)
    def enqueues(self, key: UniqueKey) -> None:
        self.ids += 1
        spec = Spec(f"j{self.ids}", "t", "q", b"%d" % self.ids, unique=key, max_attempts=3, retention_us=2_000)
        holder, before = self.holder(key.key), self.queue.apply(TakeDump(), self.now)
        try:
            (answer,) = self.queue.apply(Enqueue((spec,)), self.now)
        except UniqueConflict:
            assert holder is not None
            assert key.on_conflict == "raise"
            assert self.queue.apply(TakeDump(), self.now) == before, "refused, and yet something changed"
            return
        if holder is None:
            assert (answer.id, answer.how) == (spec.id, How.CREATED)
            assert self.holder(key.key) is not None
            return
        fresh = holder.state in UNSTARTED and holder.life.fence == 0
        assert key.on_conflict != "raise"
        assert (answer.id, answer.how is How.REPLACED) == (holder.id, key.on_conflict == "replace" and fresh)
        after = self.jobs()[holder.id]
        assert spec.id not in self.jobs()
        assert (after.seq, after.created_at) == (holder.seq, holder.created_at)
        assert after.spec.payload == (spec.payload if answer.how is How.REPLACED else holder.spec.payload)

    @rule(one=keys, other=keys)
    def enqueues_two_at_once(self, one: UniqueKey, other: UniqueKey) -> None:
        self.ids += 2
        batch = tuple(Spec(f"j{self.ids - back}", "t", "q", b"", unique=key) for back, key in ((1, one), (0, other)))
        before = self.queue.apply(TakeDump(), self.now)
        try:
            first, second = self.queue.apply(Enqueue(batch), self.now)
        except UniqueConflict:
            assert self.queue.apply(TakeDump(), self.now) == before, "all or nothing"
            return
        if one.key == other.key:
            assert second.id == first.id
            assert first.how is How.EXISTING or second.how is How.EXISTING

    @rule(want=st.integers(1, 3))
    def claims(self, want: int) -> None:
        self.ids += 1
        self.queue.apply(Exchange("m", f"c{self.ids}", want, ("q",), ("t",), LEASE_US), self.now)

    @rule(verb=st.sampled_from([Verb.SUCCEED, Verb.FAIL, Verb.RETRY, Verb.SNOOZE, Verb.RELEASE]), spawns=st.booleans())
    def settles(self, verb: Verb, spawns: bool) -> None:
        self.claims(2)
        running = [job for job in self.jobs().values() if job.life.hold is not None]
        for job in running[:2]:
            self.ids += 1
            spawn = (Spec(f"j{self.ids}", "t", "q", b"", unique=job.spec.unique),) if spawns else ()
            end = Settlement(job.id, job.life.fence, verb, spawn=spawn)
            answer = self.queue.apply(Exchange("m", "", 0, (), (), LEASE_US, (end,)), self.now)
            assert not answer.refused, "a conflict inside a spawn means that the job is there"

    @rule(act=st.sampled_from("cdr"), back=st.integers(0, 4))
    def operates(self, act: str, back: int) -> None:
        id = f"j{max(0, self.ids - back)}"
        job = self.jobs().get(id)
        key = job.spec.unique.key if job is not None and job.spec.unique is not None else None
        holder = self.holder(key) if key is not None else None
        op = {"c": CancelJobs((id,)), "d": DeleteJobs((id,)), "r": RetryJobs((id,))}[act]
        (changed,) = self.queue.apply(op, self.now)
        if act == "r" and job is not None:
            retriable = job.state in TERMINAL and job.state is not State.SUCCEEDED
            taken = retriable and holder is not None and holder.id != id
            assert (changed.change is Change.KEY_TAKEN) == taken
            assert changed.holder == (holder.id if taken and holder is not None else None)

    @rule(span=st.sampled_from([1, WINDOW_US - 1, WINDOW_US, LEASE_US]), maintain=st.booleans())
    def time_passes(self, span: int, maintain: bool) -> None:
        self.now += span
        if maintain:
            self.queue.apply(Maintain(LEASE_US), self.now)

    @invariant()
    def at_most_one_holds_a_key(self) -> None:
        keys_are_unique(self.queue.apply(TakeDump(), self.now), self.now)
        self.queue.check()
        for key in "kl":
            self.holder(key)


def in_scope(job: Job, now: int) -> bool:
    unique = job.spec.unique
    assert unique is not None
    if unique.within_us is not None:
        return now < job.created_at + unique.within_us
    if unique.until == "started":
        return job.state in UNSTARTED and job.life.fence == 0
    return job.state not in TERMINAL


@pytest.mark.proves(8)
def test_at_most_one_job_is_in_a_scope() -> None:
    run_state_machine_as_test(UniqueWalk, settings=WALK)


# --- planted bugs -------------------------------------------------------------------------------------------------


def keys_outlive_their_scope(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "_free_key", lambda self, row: None)


def a_retry_takes_the_key_again(patch: pytest.MonkeyPatch) -> None:
    real = lives.holds_key

    def holds(job: Row, now: int) -> bool:
        unique = job.spec.unique
        return real(job, now) or (unique is not None and unique.until == "started" and job.life.state in UNSTARTED)

    patch.setattr(lives, "holds_key", holds)
    patch.setattr("taskweave.core.queue.table.holds_key", holds)


def windows_never_lapse(patch: pytest.MonkeyPatch) -> None:
    real = lives.holds_key
    patch.setattr("taskweave.core.queue.table.holds_key", lambda job, now: real(job, job.created_at))


def nobody_holds_anything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "holder", lambda self, key, now: None)


def the_batch_is_blind_to_itself(patch: pytest.MonkeyPatch) -> None:
    real = enqueue._Plan.take

    def take(self: Any, spec: Spec) -> Any:
        self.taken.clear()
        return real(self, spec)

    patch.setattr(enqueue._Plan, "take", take)


def replaces_what_was_started(patch: pytest.MonkeyPatch) -> None:
    real = lives.replaced
    unstarted: Callable[[Job], Job] = lambda job: evolve(job, life=evolve(job.life, fence=0))  # noqa: E731 (a bug in one line)
    patch.setattr(enqueue, "replaced", lambda job, spec, now: real(unstarted(job), spec, now))


@pytest.mark.parametrize(
    "plant",
    [
        keys_outlive_their_scope,
        a_retry_takes_the_key_again,
        windows_never_lapse,
        nobody_holds_anything,
        the_batch_is_blind_to_itself,
        replaces_what_was_started,
    ],
)
def test_planted_bugs_are_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(UniqueWalk, settings=HUNT)


# --- what users write ---------------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(st.sampled_from(["a", "b", "c"]), plain, min_size=1)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(one=arguments, other=arguments, tasks=st.tuples(st.sampled_from("tu"), st.sampled_from("tu")))
def test_keys_are_equal_exactly_for_equal_tasks_and_values(
    one: dict[str, object], other: dict[str, object], tasks: tuple[str, str]
) -> None:
    unique = Unique()
    first, second = unique.key_for(tasks[0], one), unique.key_for(tasks[1], other)
    same = [json.dumps([task, values], sort_keys=True) for task, values in zip(tasks, (one, other), strict=True)]
    assert (first == second) == (same[0] == same[1])
    assert first == unique.key_for(tasks[0], dict(reversed(one.items())))
    assert 0 < len(first.key) <= KEY_CHARS_MAX
    assert first.key.isprintable()


@settings(max_examples=50, derandomize=True, deadline=None)
@given(values=arguments, rest=plain)
def test_only_the_named_parameters_count(values: dict[str, object], rest: object) -> None:
    unique = Unique(by=tuple(values))
    assert unique.key_for("t", values) == unique.key_for("t", {**values, "z": rest})


def test_long_keys_are_digests_and_stay_different() -> None:
    unique = Unique(by="a", within="10m", on_conflict="raise")
    keys = {unique.key_for("t" * 200, {"a": f"{'x' * 10_000}{end}"}) for end in "12"}
    assert len(keys) == 2
    assert all(len(key.key) <= KEY_CHARS_MAX for key in keys)
    assert {(key.until, key.within_us, key.on_conflict) for key in keys} == {(None, 600_000_000, "raise")}


def test_what_is_no_plain_data_or_not_there_is_refused() -> None:
    nested: list[object] = []
    nested.append(nested)
    for value in (object(), float("nan"), {1: 2, "a": 3}, nested):
        with pytest.raises(NotSerializable, match="unique key"):
            Unique().key_for("t", {"a": value})
    with pytest.raises(InvalidValue, match="'b'"):
        Unique(by=("a", "b")).key_for("t", {"a": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": ()},
        {"by": ("a", "a")},
        {"by": ["a"]},
        {"until": "cancelled"},
        {"until": "started", "within": 1},
        {"within": 0},
        {"within": "soon"},
        {"on_conflict": "ignore"},
    ],
)
def test_a_policy_checks_itself_when_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        Unique(**wrong)


def test_a_policy_is_a_value() -> None:
    assert Unique(by="a") == Unique(by=("a",))
    assert Unique().until == "finished"
    assert Unique(within=1).until is None
    with pytest.raises(AttributeError):
        Unique().until = "started"  # type: ignore[misc]
