"""Two engines on one queue machine, with a world that loses requests and answers, stalls, cancels and stops.

What must hold at every step: slots are never overbooked, one exchange at most is under way, no start is handed out
twice, and nothing is announced that the queue does not hold. At the end all faults are healed, and every job must
come to its end: a job that is stuck anywhere fails the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskweave.core.effects import Abandon, Announce, CancelRun, Run, SendExchange, Stop, Why
from taskweave.core.endings import succeeded
from taskweave.core.engine import Engine, Settings
from taskweave.core.events import (
    CancelsRequested,
    Committed,
    Ended,
    Ending,
    Event,
    ExchangeAnswered,
    ExchangeFailed,
    LeasesLost,
    RunEnded,
    StopRequested,
    Ticked,
    Woken,
)
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import TERMINAL, Failure, Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.retry import Retry
from taskweave.core.verbs import (
    CancelJobs,
    Enqueue,
    Exchange,
    Lease,
    Load,
    Maintain,
    PauseQueue,
    Renew,
    ResumeQueue,
    Settlement,
)

LEASE_US = 10 * SECOND
BOOM = Failure("ValueError", "boom", kinds=("builtins.ValueError", "builtins.Exception"))
ENDS = {
    Verb.SUCCEED: State.SUCCEEDED,
    Verb.FAIL: State.FAILED,
    Verb.CANCEL: State.CANCELLED,
}


class Worker:
    """One engine with its runs and the request that is under way."""

    def __init__(self, name: str, slots: int, ids: Iterator[int]) -> None:
        self.engine = Engine(
            Settings(name, slots=slots, lease_us=LEASE_US, obey_us=2 * SECOND),
            {"t": Retry(3, base="1s", jitter=False)},
            lambda: f"{name}-{next(ids)}",
        )
        self.runs: dict[tuple[str, int], bool] = {}  # under way, and whether told to stop
        self.request: Exchange | None = None
        self.done = False
        self.unheard: set[tuple[str, int]] = set()  # runs that ended with a right to say so
        self.own: dict[tuple[str, int], Ending] = {}  # runs that tried to settle themselves, and what came of it
        self.decided_without: set[tuple[str, int]] = set()
        self.told = Counter[tuple[str, int]]()  # how often a success was announced


class Cluster(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.now: Micros = 1_000 * SECOND
        self.numbers = count()
        self.workers = [Worker("a", 3, self.numbers), Worker("b", 2, self.numbers)]
        self.ids: list[str] = []
        self.started: set[tuple[str, int]] = set()
        for worker in self.workers:
            self.tell(worker, Ticked())

    def tell(self, worker: Worker, event: Event) -> None:
        for effect in worker.engine.handle(event, self.now):
            match effect:
                case SendExchange(request):
                    assert worker.request is None, "two exchanges under way"
                    settled = {(one.id, one.fence) for one in request.settle} - worker.decided_without
                    assert settled.isdisjoint(worker.own), "what a run has settled itself is settled again"
                    worker.request = request
                case Run(jobs):
                    for job in jobs:
                        key = (job.id, job.fence)
                        assert key not in self.started, "one start, handed out twice"
                        self.started.add(key)
                        worker.runs[key] = False
                case CancelRun(id, fence, _):
                    assert (id, fence) in worker.runs, "a run that is not there is told to stop"
                    worker.runs[id, fence] = True
                case Announce(settled, refused):
                    worker.unheard -= {(lease.id, lease.fence) for lease in refused}
                    for one in settled:
                        worker.told[one.id, one.fence] += one.verb is Verb.SUCCEED
                        worker.unheard.discard((one.id, one.fence))
                        (job,) = self.queue.apply(Load((one.id,)), self.now)
                        assert job is not None
                        known = job.life.settled
                        assert known is not None
                        assert known.fence >= one.fence, "announced before it was stored"
                        if known.fence == one.fence and one.verb in ENDS:
                            assert job.state is ENDS[one.verb]
                case Stop():
                    worker.done = True
                case Abandon(id, fence):
                    worker.decided_without.add((id, fence))

    # --- the world ------------------------------------------------------------------------------------------------

    @rule(
        n=st.integers(1, 4),
        attempts=st.integers(1, 3),
        timeout=st.sampled_from([None, 3 * SECOND]),
        delay=st.sampled_from([0, 0, 5 * SECOND]),
    )
    def enqueue(self, n: int, attempts: int, timeout: Micros | None, delay: Micros) -> None:
        specs = tuple(
            Spec(
                f"j{next(self.numbers)}",
                "t",
                "default",
                b"",
                max_attempts=attempts,
                timeout_us=timeout,
                delay_us=delay,
                max_lost=100,
            )
            for _ in range(n)
        )
        self.queue.apply(Enqueue(specs), self.now)
        self.ids += [spec.id for spec in specs]
        for worker in self.workers:
            self.tell(worker, Woken())

    @rule(w=st.integers(0, 1), fate=st.sampled_from(["ok", "ok", "ok", "request lost", "answer lost"]))
    def exchange(self, w: int, fate: str) -> None:
        worker = self.workers[w]
        request = worker.request
        if request is None:
            return
        worker.request = None
        if fate == "request lost":
            self.tell(worker, ExchangeFailed(request.claim_id, "lost", True, 0.5))
            return
        answer = self.queue.apply(request, self.now)
        if fate == "answer lost":
            self.tell(worker, ExchangeFailed(request.claim_id, "lost", True, 0.5))
        else:
            self.tell(worker, ExchangeAnswered(request.claim_id, answer))

    @rule(
        w=st.integers(0, 1),
        pick=st.integers(0, 9),
        ending=st.sampled_from([Ending.RETURNED, Ending.RETURNED, Ending.RAISED, Ending.SNOOZED, Ending.DIED]),
    )
    def end(self, w: int, pick: int, ending: Ending) -> None:
        worker = self.workers[w]
        if not worker.runs:
            return
        id, fence = sorted(worker.runs)[pick % len(worker.runs)]
        told = worker.runs.pop((id, fence))
        if told and pick % 2:
            ending = Ending.STOPPED
        ending = worker.own.get((id, fence), ending)
        running = worker.engine.running.get(id)
        heard = ending in (Ending.COMMITTED, Ending.REFUSED) or running is None or running.job.fence != fence
        if not heard and running is not None and running.why is not Why.LEASE_LOST:
            worker.unheard.add((id, fence))
        failure = BOOM if ending is Ending.RAISED else None
        delay = SECOND if ending is Ending.SNOOZED else 0
        self.tell(worker, Ended((RunEnded(id, fence, ending, b"1", failure=failure, delay_us=delay),)))

    @rule(w=st.integers(0, 1), pick=st.integers(0, 9), goes_on=st.booleans())
    def settle_itself(self, w: int, pick: int, goes_on: bool) -> None:
        """A run settles its success in a transaction of its own, and may go on after it."""
        worker = self.workers[w]
        open = sorted(worker.runs.keys() - worker.own.keys())
        if not open:
            return
        id, fence = open[pick % len(open)]
        settle = (Settlement(id, fence, Verb.SUCCEED, b"own"),)
        request = Exchange(worker.engine.settings.member, f"own-{next(self.numbers)}", 0, (), (), LEASE_US, settle)
        refused = self.queue.apply(request, self.now).refused
        worker.own[id, fence] = Ending.REFUSED if refused else Ending.COMMITTED
        if not refused:
            self.tell(worker, Committed(RunEnded(id, fence, Ending.COMMITTED, b"own")))
        if not goes_on:
            self.end(w, sorted(worker.runs).index((id, fence)), Ending.RETURNED)

    @rule(
        w=st.integers(0, 1),
        pick=st.integers(0, 9),
        ending=st.sampled_from([Ending.RETURNED, Ending.RAISED]),
        fate=st.sampled_from(["request lost", "answer lost", "ok"]),
    )
    def work_goes_round(self, w: int, pick: int, ending: Ending, fate: str) -> None:
        """Claim, end, and settle with trouble: the seam that matters most, met often."""
        self.exchange(w, "ok")
        self.end(w, pick, ending)
        self.exchange(w, fate)

    @initialize(n=st.integers(1, 4))
    def some_jobs(self, n: int) -> None:
        self.enqueue(n, 2, None, 0)

    @rule(us=st.sampled_from([1, 50_000, SECOND, 4 * SECOND, 11 * SECOND]))
    def time_passes(self, us: Micros) -> None:
        self.now += us
        self.tick()

    def tick(self) -> None:
        for worker in self.workers:
            at = worker.engine.wake_at()
            if at is not None and at <= self.now:
                self.tell(worker, Ticked())

    @rule(w=st.integers(0, 1))
    def renew(self, w: int) -> None:
        worker = self.workers[w]
        leases = tuple(Lease(id, fence) for id, fence in sorted(worker.runs))
        answer = self.queue.apply(Renew(worker.engine.settings.member, leases, LEASE_US), self.now)
        self.tell(worker, LeasesLost(answer.lost))
        self.tell(worker, CancelsRequested(answer.cancels))

    @rule()
    def maintain(self) -> None:
        self.queue.apply(Maintain(LEASE_US), self.now)

    @rule(pick=st.integers(0, 99))
    @precondition(lambda self: self.ids)
    def cancel(self, pick: int) -> None:
        self.queue.apply(CancelJobs((self.ids[pick % len(self.ids)],), "enough"), self.now)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.queue.apply(PauseQueue("default") if paused else ResumeQueue("default"), self.now)

    @rule()
    def stop_b(self) -> None:
        self.tell(self.workers[1], StopRequested(3 * SECOND))

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def slots_are_never_overbooked(self) -> None:
        for worker in self.workers:
            assert len(worker.runs) <= worker.engine.settings.slots
            assert worker.engine.used <= worker.engine.settings.slots

    @invariant()
    def a_wake_up_makes_progress(self) -> None:
        for worker in self.workers:
            at = worker.engine.wake_at()
            assert at is None or at > self.now or worker.request is not None or not self.due(worker, at)

    def due(self, worker: Worker, at: Micros) -> bool:
        return worker.engine.wake_at() == at and at <= self.now and self.ticked_in_vain(worker)

    def ticked_in_vain(self, worker: Worker) -> bool:
        self.tell(worker, Ticked())
        at = worker.engine.wake_at()
        return at is not None and at <= self.now and worker.request is None

    def teardown(self) -> None:
        """Heal everything: within a bounded number of rounds every job must have come to its end."""
        self.queue.apply(ResumeQueue("default"), self.now)
        for _ in range(400):
            for w in range(2):
                self.exchange(w, "ok")
                while self.workers[w].runs:
                    self.end(w, 0, Ending.RETURNED)
            self.queue.apply(Maintain(LEASE_US), self.now)
            self.now += SECOND
            self.tick()
            jobs = self.queue.apply(Load(tuple(self.ids)), self.now)
            if all(job is not None and job.state in TERMINAL for job in jobs):
                break
        else:
            stuck = [job for job in jobs if job is None or job.state not in TERMINAL]
            raise AssertionError(f"stuck for ever: {stuck[:3]}")
        for _ in range(50):
            for w in range(2):
                self.exchange(w, "ok")
            self.now += SECOND
            self.tick()
        assert not self.workers[0].engine.running
        assert not self.workers[0].engine.outbox
        assert not self.workers[0].unheard, "an end that the store was never told of"
        committed = [key for key, ending in self.workers[0].own.items() if ending is Ending.COMMITTED]
        assert all(self.workers[0].told[key] == 1 for key in committed), "a success of its own, not counted once"


LONG = settings(max_examples=80, stateful_step_count=60, deadline=None, derandomize=True)
SHORT = settings(
    max_examples=5_000,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    report_multiple_bugs=False,
    phases=[Phase.generate],  # the first failure will do, small or not
)


def test_two_engines_lose_nothing_and_overbook_nothing() -> None:
    run_state_machine_as_test(Cluster, settings=LONG)


def _forgets_the_outbox_on_failure(self: Engine, event: ExchangeFailed, now: Micros, effects: list[object]) -> None:
    if self.sent is not None and self.sent.claim_id == event.claim_id:
        self.sent = None


def _announces_too_early(self: Engine, event: ExchangeFailed, now: Micros, effects: list[object]) -> None:
    if self.sent is not None and self.sent.claim_id == event.claim_id:
        effects.append(Announce(self.sent.settle))
        self._resend_at = now + 1


def _never_resends(self: Engine, event: ExchangeFailed, now: Micros, effects: list[object]) -> None:
    self._failures += 1


def _settles_what_settled_itself(self: Engine, run: RunEnded, effects: list[object]) -> None:
    """Tells of it, and forgets that it was told."""
    effects.append(Announce((succeeded(run),)))


@pytest.mark.parametrize(
    ("method", "bug"),
    [
        ("_committed", _settles_what_settled_itself),
        ("_committed", lambda self, run, effects: None),
        ("_failed", _announces_too_early),
        ("_failed", _never_resends),
        ("_failed", _forgets_the_outbox_on_failure),
        ("_enforce", lambda self, now, effects: None),
    ],
    ids=[
        "settles twice",
        "is silent of a commit",
        "announces too early",
        "never resends",
        "forgets the outbox",
        "never enforces a deadline",
    ],
)
def test_planted_bugs_are_found(monkeypatch: pytest.MonkeyPatch, method: str, bug: object) -> None:
    monkeypatch.setattr(Engine, method, bug)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Cluster, settings=SHORT)
