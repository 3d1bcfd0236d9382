"""The retry policy: what it accepts, what it prints, and what it decides."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from taskweave.core import life
from taskweave.core.bounds import ATTEMPTS_MAX
from taskweave.core.endings import settlement_of
from taskweave.core.events import Ending, RunEnded
from taskweave.core.ids import DAY, HOUR, MINUTE, SECOND
from taskweave.core.job import Failure, Job, Spec, State, Verb
from taskweave.core.retry import KINDS_MAX, Retry, kind, kinds, next_delay, schedule
from taskweave.core.verbs import Claimed, Settlement
from taskweave.exceptions import InvalidValue

HALF = [0.5] * 20
ALMOST_ONE = 1 - 2**-53


def failure(error: type[BaseException]) -> Failure:
    return Failure(error.__name__, "no", kinds=kinds(error))


def seconds(*values: float) -> list[int]:
    return [int(value * SECOND) for value in values]


@pytest.mark.proves(15)
class TestSchedule:
    def test_of_the_defaults(self) -> None:
        assert schedule(Retry(jitter=False), HALF) == seconds(1, 2, 4, 8)
        assert schedule(Retry(12, jitter=False), HALF) == seconds(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600)

    def test_with_full_jitter(self) -> None:
        assert schedule(Retry(), HALF) == seconds(0.5, 1, 2, 4)
        assert schedule(Retry(), [0.0] * 9) == [0, 0, 0, 0]
        assert schedule(Retry(), [ALMOST_ONE] * 9) == seconds(1, 2, 4, 8)

    def test_fixed(self) -> None:
        assert schedule(Retry.fixed("5s"), HALF) == seconds(5, 5, 5, 5)
        assert schedule(Retry.fixed("1h", attempts=3), HALF) == [HOUR, HOUR]
        assert schedule(Retry(3, base="7s", cap="7s", jitter=False), HALF) == seconds(7, 7)
        assert schedule(Retry.fixed(0, attempts=3), HALF) == [0, 0]
        assert schedule(Retry.fixed("5s", attempts=3, jitter=True), HALF) == seconds(2.5, 2.5)

    def test_linear(self) -> None:
        assert schedule(Retry.linear("10s", cap="25s"), HALF) == seconds(10, 20, 25, 25)

    def test_exponential(self) -> None:
        policy = Retry.exponential("1s", factor=3, cap="1m", attempts=7, jitter=False)
        assert schedule(policy, HALF) == seconds(1, 3, 9, 27, 60, 60)
        assert schedule(Retry.exponential("7s", factor=1, jitter=False), HALF) == seconds(7, 7, 7, 7)

    def test_decorrelated(self) -> None:
        policy = Retry.decorrelated("1s", cap="20s")
        assert schedule(policy, [0.0] * 9) == seconds(1, 1, 1, 1)
        assert schedule(policy, HALF) == seconds(2, 5, 10.5, 10.5)
        assert schedule(policy, [ALMOST_ONE] * 9) == seconds(3, 9, 20, 20)

    def test_ends_where_max_elapsed_leaves_no_room(self) -> None:
        assert schedule(Retry(9, jitter=False, max_elapsed="7s"), HALF) == seconds(1, 2, 4)
        assert schedule(Retry(9, jitter=False, max_elapsed="6.999999s"), HALF) == seconds(1, 2)
        assert schedule(Retry(max_elapsed=0), HALF) == []

    def test_is_no_longer_than_the_attempts_or_the_numbers(self) -> None:
        assert schedule(Retry(1), HALF) == []
        assert schedule(Retry(jitter=False), [0.1, 0.2]) == seconds(1, 2)

    @pytest.mark.parametrize(
        "policy",
        [
            Retry(),
            Retry.fixed("5s"),
            Retry.linear("2s"),
            Retry.decorrelated(),
            Retry(7, max_elapsed="9s"),
        ],
        ids=lambda policy: policy.strategy,
    )
    def test_printed_is_what_a_job_lives_through(self, policy: Retry) -> None:
        numbers = [0.9, 0.1, 0.7, 0.3, 0.5, 0.2]
        starts, job = _lived(policy, numbers)
        assert [late - early for early, late in pairwise(starts)] == schedule(policy, numbers)
        assert job.state is State.FAILED
        assert [attempt.error for attempt in job.life.history] == [failure(OSError)] * len(starts)


def _lived(policy: Retry, numbers: list[float]) -> tuple[list[int], Job]:
    """The starts of a job that fails at once at every attempt, and the job at its end."""
    now = 1_000 * SECOND
    job = life.born(Spec("id", "task", "default", b"", max_attempts=policy.attempts), 1, now)
    starts: list[int] = []
    while not job.finished:
        starts.append(now)
        job = job.with_life(life.claim(job.life, "member", "claim", now, SECOND))
        number = numbers[job.life.attempt - 1]
        delay = next_delay(policy, failure(OSError), job.life.attempt, now - job.due_at, number)
        verb = Verb.FAIL if delay is None else Verb.RETRY
        settlement = Settlement("id", job.life.fence, verb, delay_us=delay or 0, error=failure(OSError))
        after = life.settle(job, settlement, now)
        assert after is not None
        if not job.with_life(after).finished:
            now = after.run_at
            after = life.promote(after, now) or after
        job = job.with_life(after)
    return starts, job


class TestDecision:
    def test_attempts_are_counted_in_all(self) -> None:
        policy = Retry(3, jitter=False)
        delays = [next_delay(policy, failure(OSError), attempt, 0, 0.5) for attempt in (1, 2, 3, 4)]
        assert delays == [SECOND, 2 * SECOND, None, None]

    def test_the_row_replaces_the_attempts_of_the_registry(self) -> None:
        policy = Retry(3)
        assert next_delay(policy, failure(OSError), 3, 0, 0.5, 5) == 2 * SECOND
        assert next_delay(policy, failure(OSError), 2, 0, 0.5, 2) is None
        assert policy.allows(4, 0, 5)
        assert not policy.allows(5, 0, 5)

    def test_max_elapsed_counts_from_the_first_due_instant(self) -> None:
        policy = Retry(9, jitter=False, max_elapsed="10s")
        assert next_delay(policy, failure(OSError), 1, 9 * SECOND, 0) == SECOND
        assert next_delay(policy, failure(OSError), 1, 9 * SECOND + 1, 0) is None
        assert next_delay(policy, failure(OSError), 1, 11 * SECOND, 0) is None
        assert policy.allows(1, 10 * SECOND)
        assert not policy.allows(1, 10 * SECOND, delay_us=1)

    @pytest.mark.parametrize("ending", [Ending.RAISED, Ending.RETRY_AFTER, Ending.SNOOZED], ids=str)
    def test_max_elapsed_counts_the_run_that_failed(self, ending: Ending) -> None:
        policy = Retry(9, base="1s", jitter=False, max_elapsed="10s")
        claimed = Claimed(Spec("id", "task", "default", b"", max_attempts=9), 1, 1, 0, age_us=2 * SECOND, wait_us=0)
        run = RunEnded("id", 1, ending, failure=failure(OSError), delay_us=SECOND)
        in_time = settlement_of(run, claimed, policy, None, 7 * SECOND, None)
        assert in_time is not None
        assert in_time.verb in (Verb.RETRY, Verb.SNOOZE)
        late = settlement_of(run, claimed, policy, None, 7 * SECOND + 1, None)
        assert late is not None
        assert late.verb is Verb.FAIL

    def test_children_of_an_exception_are_met(self) -> None:
        policy = Retry(on=(OSError,))
        assert next_delay(policy, failure(FileNotFoundError), 1, 0, 0.5) is not None
        assert next_delay(policy, failure(ValueError), 1, 0, 0.5) is None

    def test_what_is_no_exception_is_not_retried_by_default(self) -> None:
        assert next_delay(Retry(), failure(KeyboardInterrupt), 1, 0, 0.5) is None
        assert next_delay(Retry(on=(BaseException,)), failure(KeyboardInterrupt), 1, 0, 0.5) is not None

    def test_never_beats_everything(self) -> None:
        policy = Retry(never=(FileNotFoundError,), rules=((OSError, Retry.fixed("5s")),))
        assert next_delay(policy, failure(FileNotFoundError), 1, 0, 0.5) is None
        assert next_delay(policy, failure(OSError), 1, 0, 0.5) == 5 * SECOND

    def test_the_first_rule_that_matches_decides(self) -> None:
        policy = Retry(
            on=(),
            rules=((FileNotFoundError, None), (OSError, Retry.fixed("5s")), (Exception, Retry.fixed("9s"))),
        )
        assert next_delay(policy, failure(FileNotFoundError), 1, 0, 0.5) is None
        assert next_delay(policy, failure(PermissionError), 1, 0, 0.5) == 5 * SECOND
        assert next_delay(policy, failure(ValueError), 1, 0, 0.5) == 9 * SECOND
        assert next_delay(policy, failure(SystemExit), 1, 0, 0.5) is None

    def test_a_rule_narrows_attempts_and_elapsed_and_never_widens_them(self) -> None:
        narrow = Retry(5, rules=((OSError, Retry.fixed("5s", attempts=2, max_elapsed="8s")),))
        assert next_delay(narrow, failure(OSError), 1, 3 * SECOND, 0) == 5 * SECOND
        assert next_delay(narrow, failure(OSError), 1, 3 * SECOND + 1, 0) is None
        assert next_delay(narrow, failure(OSError), 2, 0, 0) is None
        assert next_delay(narrow, failure(OSError), 2, 0, 0, 9) is None
        wide = Retry(2, max_elapsed="8s", rules=((OSError, Retry.fixed("5s", attempts=9)),))
        assert next_delay(wide, failure(OSError), 2, 0, 0) is None
        assert next_delay(wide, failure(OSError), 1, 4 * SECOND, 0) is None

    @pytest.mark.parametrize("unknown", [None, Failure("ProcessDied", "exit code 9")], ids=["none", "no kinds"])
    def test_a_failure_of_unknown_kind_is_a_plain_exception(self, unknown: Failure | None) -> None:
        assert next_delay(Retry(), unknown, 1, 0, 0.5) is not None
        assert next_delay(Retry(on=(OSError,)), unknown, 1, 0, 0.5) is None
        assert next_delay(Retry(rules=((Exception, None),)), unknown, 1, 0, 0.5) is None

    @pytest.mark.parametrize("strategy", ["exponential", "fixed", "linear", "decorrelated"])
    @pytest.mark.parametrize("factor", [1.0, 1 + 2**-52, 2.0, 1000.0])
    def test_the_last_of_ten_thousand_attempts_does_not_overflow(self, strategy: str, factor: float) -> None:
        policy = Retry(ATTEMPTS_MAX, strategy=strategy, base="1s", cap=timedelta(days=3660), factor=factor)  # type: ignore[arg-type]
        delay = next_delay(policy, failure(OSError), ATTEMPTS_MAX - 1, 0, ALMOST_ONE)
        assert delay is not None
        assert 0 < delay <= 3660 * DAY

    def test_a_failure_that_travelled_as_text_is_met(self) -> None:
        text = json.dumps({"type": "FileNotFoundError", "message": "", "kinds": kinds(FileNotFoundError)})
        back = json.loads(text)
        travelled = Failure(back["type"], back["message"], kinds=tuple(back["kinds"]))
        assert next_delay(Retry(on=(OSError,)), travelled, 1, 0, 0.5) is not None


class TestValue:
    def test_names_of_classes(self) -> None:
        assert kind(OSError) == "builtins.OSError"
        assert kind(InvalidValue) == "taskweave.exceptions.InvalidValue"
        assert kinds(FileNotFoundError) == (
            "builtins.FileNotFoundError",
            "builtins.OSError",
            "builtins.Exception",
            "builtins.BaseException",
        )

    def test_a_long_line_of_bases_keeps_both_ends(self) -> None:
        error: type[Exception] = OSError
        for number in range(40):
            error = type(f"Error{number}", (error,), {"__module__": "shop"})
        assert len(kinds(error)) == KINDS_MAX
        assert kinds(error)[0] == "shop.Error39"
        assert kinds(error)[-3:] == ("builtins.OSError", "builtins.Exception", "builtins.BaseException")
        assert next_delay(Retry(on=(OSError,)), failure(error), 1, 0, 0.5) is not None

    @pytest.mark.parametrize("name", ["x" * 1_000, "a\x00b", "\ud800", "a\u202eb"], ids=ascii)
    def test_odd_names_of_classes_can_be_stored_and_still_match(self, name: str) -> None:
        error = type("Odd", (Exception,), {})
        error.__qualname__ = name.replace("\x00", "\x01")
        assert kind(error).isprintable()
        assert len(kind(error).encode()) < 1_000
        assert next_delay(Retry(on=(error,)), failure(error), 1, 0, 0.5) is not None

    def test_spans_are_kept_in_microseconds(self) -> None:
        policy = Retry(5, base="1s", cap="5m", on=(OSError,), max_elapsed=timedelta(hours=1))
        assert (policy.base_us, policy.cap_us, policy.max_elapsed_us) == (SECOND, 5 * MINUTE, HOUR)
        assert policy.on == {"builtins.OSError"}

    def test_equal_policies_are_equal_and_hash_alike(self) -> None:
        assert Retry(base="1000ms") == Retry(base=1.0)
        assert hash(Retry(base="1000ms")) == hash(Retry(base=1))
        assert Retry() != Retry(jitter=False)

    def test_nothing_of_it_changes(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Retry().attempts = 3  # type: ignore[misc]

    def test_evolve_cannot_scale_its_spans_twice(self) -> None:
        with pytest.raises(TypeError):
            evolve(Retry(), attempts=3)


BAD: list[tuple[str, dict[str, object]]] = [
    ("attempts", {"attempts": 0}),
    ("attempts", {"attempts": -1}),
    ("attempts", {"attempts": ATTEMPTS_MAX + 1}),
    ("attempts", {"attempts": True}),
    ("attempts", {"attempts": 2.0}),
    ("attempts", {"attempts": "3"}),
    ("attempts", {"attempts": None}),
    ("base", {"base": "-1s"}),
    ("base", {"base": -1}),
    ("base", {"base": 0}),
    ("base", {"base": "soon"}),
    ("base", {"base": None}),
    ("base", {"base": True}),
    ("base", {"base": float("nan")}),
    ("base", {"base": float("inf")}),
    ("base", {"base": "11m"}),
    ("base", {"base": 1, "cap": 0.5}),
    ("cap", {"cap": "4000d"}),
    ("cap", {"cap": -1}),
    ("factor", {"factor": 0.5}),
    ("factor", {"factor": 0}),
    ("factor", {"factor": -2}),
    ("factor", {"factor": float("nan")}),
    ("factor", {"factor": float("inf")}),
    ("factor", {"factor": True}),
    ("factor", {"factor": "2"}),
    ("strategy", {"strategy": "fibonacci"}),
    ("strategy", {"strategy": None}),
    ("strategy", {"strategy": ["fixed"]}),
    ("max_elapsed", {"max_elapsed": -1}),
    ("max_elapsed", {"max_elapsed": "4000d"}),
    ("jitter", {"jitter": 0.3}),
    ("jitter", {"jitter": None}),
    ("jitter", {"strategy": "decorrelated", "jitter": False}),
    ("on", {"on": OSError}),
    ("on", {"on": ("OSError",)}),
    ("on", {"on": (int,)}),
    ("on", {"on": (OSError("an instance"),)}),
    ("on", {"on": None}),
    ("never", {"never": "OSError"}),
    ("never", {"never": (object,)}),
    ("rules", {"rules": None}),
    ("rules", {"rules": (OSError,)}),
    ("rules", {"rules": ((OSError,),)}),
    ("rules", {"rules": ((OSError, "5s"),)}),
    ("rules", {"rules": (("OSError", None),)}),
    ("rules", {"rules": ((OSError, Retry(on=(ValueError,))),)}),
    ("rules", {"rules": ((OSError, Retry(never=(ValueError,))),)}),
    ("rules", {"rules": ((OSError, Retry(rules=((ValueError, None),))),)}),
]


@pytest.mark.parametrize(("field", "arguments"), BAD, ids=repr)
def test_a_bad_policy_is_refused_by_the_name_of_the_field(field: str, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidValue) as caught:
        Retry(**arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert str(caught.value).startswith(f"[TW1201] {field} is ")


def test_errors_of_a_main_program_have_one_name_in_every_process() -> None:
    here = type("Mine", (Exception,), {"__module__": "__main__"})
    in_a_child = type("Mine", (Exception,), {"__module__": "__taskweave_main__"})
    assert kind(here) == kind(in_a_child) == "__main__.Mine"
