"""Why a job waits: each reason is named, and where something can be done, the command is there."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from taskweave.core.ids import DAY, HOUR, MINUTE, SECOND
from taskweave.core.job import Failure, Job, Progress, Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    Enqueue,
    Exchange,
    LeaseProgress,
    Load,
    Maintain,
    PauseQueue,
    Renew,
    Settlement,
)
from taskweave.core.why import span, why

NOW = 1_000 * SECOND
LEASE = 30 * SECOND


class World:
    """One job in a queue machine, brought to where it is asked about."""

    def __init__(self, **spec: Any) -> None:
        self.queue = Queue()
        self.now = NOW
        self.queue.apply(Enqueue((Spec("id", "task", "mail", b"", **spec),)), NOW)

    def job(self) -> Job:
        (job,) = self.queue.apply(Load(("id",)), self.now)
        assert job is not None
        return job

    def why(self, **rest: Any) -> str:
        return "\n".join(why(self.job(), self.queue.apply(Count(), self.now), **rest))

    def claim(self) -> World:
        self.queue.apply(Exchange("worker-1", f"c{self.now}", 1, ("mail",), ("task",), LEASE), self.now)
        return self

    def settle(self, verb: Verb, **rest: Any) -> World:
        settlement = Settlement("id", self.job().life.fence, verb, **rest)
        self.queue.apply(Exchange("worker-1", "", 0, (), (), LEASE, (settlement,)), self.now)
        return self

    def later(self, micros: int) -> World:
        self.now += micros
        return self


def test_scheduled_until() -> None:
    world = World(delay_us=200 * SECOND, expires_in_us=HOUR)
    assert "may start in 3 min 20 s" in world.why()
    assert "expires in 1 h" in world.why()
    assert "has been due for 1 s" in world.later(201 * SECOND).why()


def test_a_paused_queue_and_how_to_resume_it() -> None:
    world = World()
    world.queue.apply(PauseQueue("mail"), NOW)
    assert world.why().splitlines()[0] == "Queue 'mail' is paused, so nothing of it starts."
    assert "taskweave queue resume mail" in world.why()
    delayed = World(delay_us=5)
    delayed.queue.apply(PauseQueue("mail"), NOW)
    assert "taskweave queue resume mail" in delayed.why()


def test_jobs_ahead_and_workers() -> None:
    world = World()
    assert "waits for a free worker" in world.why()
    assert "knows task 'task'" in world.why()
    assert "1 job of queue 'mail' start" in world.why(ahead=1)
    specs = tuple(Spec(f"o{number}", "task", "mail", b"", priority=number) for number in range(3))
    world.queue.apply(Enqueue(specs), NOW)
    assert "as are 3 jobs more" in world.why()
    world.claim()
    assert "as are 2 jobs more" in world.why()
    assert "is a worker up" not in world.why()


def test_a_queue_nobody_counted() -> None:
    assert "waits for a free worker" in why(World().job(), Queue().apply(Count(), NOW))[0]


def test_who_holds_the_lease() -> None:
    world = World().claim().later(SECOND)
    assert "worker worker-1 started attempt 1 of 1 1 s ago" in world.why()
    assert "held for 29 s more" in world.why()
    world.queue.apply(CancelJobs(("id",), "a typo"), world.now)
    progress = LeaseProgress("id", 1, Progress(1, 4, "half way"))
    world.queue.apply(Renew("worker-1", (), LEASE, (progress,)), world.now)
    assert "asked to stop: a typo" in world.why()
    assert "Progress: 1 of 4: half way" in world.why()
    assert "ran out 1 s ago" in world.later(30 * SECOND).why()


def test_an_open_ended_progress() -> None:
    world = World().claim()
    world.queue.apply(Renew("worker-1", (), LEASE, (LeaseProgress("id", 1, Progress(3)),)), world.now)
    assert "Progress: 3." in world.why()


def test_a_retry_after_an_error() -> None:
    boom = Failure("OSError", "disk\nfull")
    world = World(max_attempts=3).claim().settle(Verb.RETRY, delay_us=MINUTE, error=boom)
    assert "may start in 1 min" in world.why()
    assert "Attempt 1 ended with OSError: disk; 2 of 3 are left" in world.why()
    again = World(max_attempts=3).claim().settle(Verb.RETRY, error=evolve(boom, message=" "))
    assert "Attempt 1 ended with OSError;" in again.why()
    assert "no recorded error" in World(max_attempts=3).claim().settle(Verb.RETRY).why()


def test_a_snooze_a_release_a_vanished_worker_and_a_worker_that_cannot() -> None:
    assert "put it off: too early" in World().claim().settle(Verb.SNOOZE, reason="too early").why()
    released = World().claim().settle(Verb.RELEASE, unfit=True, reason="unknown task")
    assert "worker-1 gave it back: unknown task" in released.why()
    assert "1 times a worker could not run it" in released.why()
    lost = World().claim().later(LEASE)
    lost.queue.apply(Maintain(LEASE), lost.now)
    assert "vanished while running it, time 1 of 3" in lost.why()


def test_a_deadline_that_passed_unseen() -> None:
    assert "Its deadline has passed" in World(expires_in_us=SECOND).later(SECOND).why()


@pytest.mark.parametrize(
    ("verb", "rest", "said"),
    [
        (Verb.SUCCEED, {"result": b"1"}, "It succeeded 2 s ago."),
        (Verb.SUCCEED, {"result_dropped": "too large"}, "Its result is gone: too large."),
        (Verb.FAIL, {"cause": "abort", "reason": "no"}, "It became a dead letter 2 s ago: the task gave up (no)."),
        (Verb.FAIL, {}, "no cause was recorded"),
        (Verb.FAIL, {"cause": "strange"}, "strange"),
        (Verb.RETRY, {"error": Failure("E", "x")}, "its attempts are spent"),
        (Verb.RETRY, {"error": Failure("E", "x")}, "Its last error: E: x."),
        (Verb.CANCEL, {"reason": "enough"}, "It was cancelled 2 s ago: enough."),
    ],
)
def test_how_it_ended(verb: Verb, rest: dict[str, Any], said: str) -> None:
    world = World().claim().settle(verb, **rest).later(2 * SECOND)
    assert said in world.why()
    assert ("taskweave job retry id" in world.why()) == (world.job().state is not State.SUCCEEDED)


def test_expired_and_lost() -> None:
    expired = World(expires_in_us=SECOND).later(SECOND)
    expired.queue.apply(Maintain(LEASE), expired.now)
    assert "could not start before its deadline" in expired.why()
    lost = World(at_most_once=True).claim().later(LEASE)
    lost.queue.apply(Maintain(LEASE), lost.now)
    assert "It was lost" in lost.why()


def test_spans_read_well() -> None:
    assert span(0) == "less than 1 ms"
    assert span(2 * DAY + 3 * HOUR + 4 * MINUTE) == "2 d 3 h"
    assert span(DAY + MINUTE) == "1 d"
    assert span(1_500_000) == "1 s 500 ms"
