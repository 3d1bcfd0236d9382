"""The queue machine under random ops: every index agrees with a scan, and every op obeys the laws.

The planted bugs are what such machines have got wrong elsewhere: a fence not compared, a lease renewed when it was
over, a budget not counted, a key not freed. Each must be found by the same walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from queue_laws import by_id, obeys

from taskweave.core import life as lives
from taskweave.core.ids import SECOND
from taskweave.core.job import TERMINAL, Failure, Job, Life, Progress, Spec, State, Verb
from taskweave.core.queue import Queue, enqueue, exchange, maintain, moving
from taskweave.core.queue.table import Row, Table
from taskweave.core.ready import rank
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Change,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Export,
    Find,
    Lease,
    LeaseProgress,
    Load,
    Maintain,
    Op,
    PauseQueue,
    Prune,
    PurgeQueue,
    Renew,
    Restore,
    ResumeQueue,
    RetryJobs,
    Settlement,
    TakeDump,
    UpdateJob,
)
from taskweave.exceptions import UniqueConflict

LEASE_US = 1_000
WALK = settings(max_examples=80, stateful_step_count=40, derandomize=True, deadline=None)
HUNT = settings(WALK, phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

RECENT = 6  # how far back an op may name a job
spans = st.sampled_from([0, 0, 0, 1, 500])
ENDS = [Verb.SUCCEED, Verb.FAIL, Verb.RETRY, Verb.RETRY, Verb.SNOOZE, Verb.RELEASE, Verb.CANCEL]
KINDS: list[dict[str, Any]] = [
    {"max_attempts": 2},
    {"max_attempts": 2, "max_lost": 2, "tags": (("t", "1"),)},
    {"max_attempts": 2, "priority": 1},
    {"max_attempts": 2, "task": "y", "priority": -1, "result_ttl_us": 0},
    {"delay_us": 500},
    {"delay_us": 1_500, "priority": 1},
    {"expires_in_us": 1},
    {"expires_in_us": 1, "max_attempts": 3, "priority": 1},
    {"expires_in_us": 800, "max_attempts": 3, "priority": 1},
    {"at_most_once": True},
    {"unique": UniqueKey("k"), "max_attempts": 2},
    {"unique": UniqueKey("k", on_conflict="replace"), "max_attempts": 2},
    {"unique": UniqueKey("k", on_conflict="replace"), "max_attempts": 2, "queue": "b"},
    {"unique": UniqueKey("k", "started", on_conflict="replace")},
    {"unique": UniqueKey("k", None, 900, "raise")},
]


def spec(id: str, kind: int, queue: str) -> Spec:
    given = {"task": "x", "queue": queue, "payload": b"%d" % kind, "result_ttl_us": 2_000} | KINDS[kind]
    return Spec(id, retention_us=3_000, retention_failed_us=9_000, **given)


ends = st.lists(st.tuples(st.integers(0, 11), st.sampled_from(ENDS), spans), min_size=1, max_size=3)


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[int, int, str]]:
    """Which id (0 is a new one, else one of the recent ones), what kind, in which queue."""
    kinds = st.integers(0, len(KINDS) - 1)
    return draw(
        st.lists(
            st.tuples(st.sampled_from([0, 0, 0, 1, 2]), kinds, st.sampled_from(["a", "a", "b"])), min_size=1, max_size=4
        )
    )


def end(lease: Lease, verb: Verb, delay_us: int, spawn: tuple[Spec, ...] = ()) -> Settlement:
    return Settlement(
        lease.id,
        lease.fence,
        verb,
        b"null" if verb is Verb.SUCCEED else None,
        delay_us if verb in (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE) else 0,
        Failure("E", "failed") if verb in (Verb.FAIL, Verb.RETRY) else None,
        unfit=verb is Verb.RELEASE and delay_us == 1,
        spawn=spawn,
    )


class QueueWalk(RuleBasedStateMachine):
    """One queue, ops at instants that never fall, and every law after every op."""

    aging_us: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(self.aging_us)
        self.now = 50 * SECOND
        self.claims_made = self.ids = 0
        self.started: Counter[str] = Counter()  # since the job was created or revived
        self.excused: Counter[str] = Counter()  # releases and snoozes since then
        self.handed: list[Lease] = []
        self.last: Exchange | Enqueue | None = None

    def apply(self, op: Op[Any]) -> Any:
        before = self.queue.apply(TakeDump(), self.now)
        try:
            answer = self.queue.apply(op, self.now)
        except UniqueConflict:
            answer = None
        self.queue.check()
        after = self.queue.apply(TakeDump(), self.now)
        if answer is None:
            assert after == before, "an op that raised changed something"
            return None
        obeys(op, answer, before, after, self.now, self.aging_us)
        old, new = by_id(before), by_id(after)
        for id, job in new.items():
            self.budget(id, old.get(id), job)
        return answer

    def budget(self, id: str, old: Job | None, job: Job) -> None:
        """I22: starts <= max_attempts + max_lost + releases + snoozes, since creation or an operator's retry."""
        revived = old is not None and old.state in TERMINAL and job.state not in TERMINAL
        if old is None or revived:
            self.started[id] = self.excused[id] = 0
            return
        entries = len(job.life.history) - len(old.life.history)
        if entries > 0 and job.life.history[-1].verb in (Verb.RELEASE, Verb.SNOOZE):
            self.excused[id] += 1
        if job.state is State.RUNNING and job.life.fence != old.life.fence:
            self.started[id] += 1
        bound = job.spec.max_attempts + job.spec.max_lost + self.excused[id]
        assert self.started[id] <= bound, f"I22: {id} was started {self.started[id]} times"

    def batch(self, drawn: list[tuple[int, int, str]]) -> tuple[Spec, ...]:
        specs: dict[str, Spec] = {}
        for back, kind, queue in drawn:
            self.ids += not back
            id = f"j{max(0, self.ids - back)}"
            specs[id] = spec(id, kind, queue)
        return tuple(specs.values())

    @initialize(drawn=batches(), want=st.integers(0, 4))
    def begins(self, drawn: list[tuple[int, int, str]], want: int) -> None:
        self.enqueues(drawn, want)

    @rule(drawn=batches(), want=st.integers(0, 4))
    def enqueues(self, drawn: list[tuple[int, int, str]], want: int) -> None:
        self.last = Enqueue(self.batch(drawn))
        if self.apply(self.last) is None:
            self.last = None
        if want:
            self.exchange(want)

    @rule(picks=ends, want=st.integers(0, 3), drawn=st.just([]) | batches(), spawns=st.booleans())
    def settles(
        self, picks: list[tuple[int, Verb, int]], want: int, drawn: list[tuple[int, int, str]], spawns: bool
    ) -> None:
        """What runs, or what was handed out, whatever became of it since; and what comes of it, with it or after."""
        leases = [*self.running(), *reversed(self.handed)]
        if leases:
            chosen = [(leases[pick % len(leases)], verb, delay) for pick, verb, delay in picks]
            spawned = self.batch(drawn) if spawns else ()
            self.exchange(want, settle=tuple([end(lease, verb, delay, spawned) for lease, verb, delay in chosen]))
        if drawn and not spawns:
            self.enqueues(drawn, 0)

    @rule(
        want=st.integers(0, 3),
        queues=st.sampled_from([("a", "b"), ("b", "a"), ("a",), ("a", "a")]),
        known=st.sampled_from([("x", "y"), ("x",), ("y", "z", "w")]),
        picks=st.just([]) | ends,
    )
    def claims(
        self, want: int, queues: tuple[str, ...], known: tuple[str, ...], picks: list[tuple[int, Verb, int]]
    ) -> None:
        settle = [end(self.handed[pick % len(self.handed)], verb, delay) for pick, verb, delay in picks if self.handed]
        self.exchange(want, queues, known, tuple(settle))

    def running(self) -> list[Lease]:
        """What runs; where nothing does, something is claimed first, so that walks get deep."""
        if not any(job.state is State.RUNNING for job in self.rows()):
            self.exchange(3)
        return [Lease(job.id, job.life.fence) for job in self.rows() if job.state is State.RUNNING]

    def exchange(
        self,
        want: int,
        queues: tuple[str, ...] = ("a", "b"),
        tasks: tuple[str, ...] = ("x", "y"),
        settle: tuple[Settlement, ...] = (),
    ) -> None:
        self.claims_made += 1
        member = "mn"[self.claims_made % 2]
        self.last = Exchange(member, f"c{self.claims_made}", want, queues, tasks, LEASE_US, settle)
        answer = self.apply(self.last)
        self.handed = [*self.handed, *(Lease(each.id, each.fence) for each in answer.claimed)][-12:]

    @rule(
        span=st.sampled_from([1, 400, 999, LEASE_US, LEASE_US, 1_001, 11 * SECOND]),
        maintain=st.sampled_from([True, True, False]),
    )
    def time_passes(self, span: int, maintain: bool) -> None:
        """So long at last that maintenance must take it for a jump of the clock."""
        self.running()
        self.now += span
        if not maintain:
            self.exchange(2)
        else:
            self.apply(Maintain(LEASE_US))
            floor = self.queue.apply(TakeDump(), self.now).floor
            assert self.now - lives.FLOOR_STEP_US < floor <= self.now
            assert self.queue.apply(Maintain(LEASE_US), floor - 5_000).now == floor, "store time ran back"

    @rule()
    def sends_the_last_again(self) -> None:
        """I2, I4, I8: what may have been applied is resent, and changes nothing."""
        op = self.last
        if op is None or (isinstance(op, Enqueue) and any(spec.unique for spec in op.specs)):
            return
        before = by_id(self.queue.apply(TakeDump(), self.now))
        if isinstance(op, Exchange) and not any(
            job.life.hold and job.life.hold.claim_id == op.claim_id for job in before.values()
        ):
            op = evolve(op, want=0)
        self.apply(op)
        after = by_id(self.queue.apply(TakeDump(), self.now))
        for id, job in before.items():
            same = (after[id].life.settled, after[id].life.hold) == (job.life.settled, job.life.hold)
            assert same or self.settled_since(op, id), f"a resend changed {id}"

    def settled_since(self, op: Op[Any], id: str) -> bool:
        """A settlement refused at first, for a job that has not started since, may apply to nothing now either."""
        return isinstance(op, Exchange) and sum(each.id == id for each in op.settle) > 1

    @rule(picks=st.sets(st.integers(0, 11), min_size=1), lease_us=st.sampled_from([LEASE_US, 300]))
    def renews(self, picks: set[int], lease_us: int) -> None:
        leases = tuple({self.handed[pick % len(self.handed)] for pick in sorted(picks)} if self.handed else ())
        old = by_id(self.queue.apply(TakeDump(), self.now))
        progress = tuple(LeaseProgress(lease.id, lease.fence, Progress(0.5)) for lease in leases[:1])
        answer = self.apply(Renew("m", leases, lease_us, progress))
        new = by_id(self.queue.apply(TakeDump(), self.now))
        for lease in leases:
            job = old.get(lease.id)
            hold = None if job is None or job.life.fence != lease.fence else job.life.hold
            alive = hold is not None and self.now < hold.lease_until
            assert (lease in answer.lost) == (not alive), f"I4: renewing {hold} at {self.now}"
            if alive:
                after = new[lease.id].life.hold
                assert after is not None
                assert after.lease_until == self.now + lease_us

    @rule(
        backs=st.lists(st.integers(0, RECENT), min_size=1, max_size=3),
        act=st.sampled_from("cccrrdu"),
        priority=st.none() | st.integers(-1, 2),
        delay=st.none() | spans,
    )
    def operates(self, backs: list[int], act: str, priority: int | None, delay: int | None) -> None:
        ids = tuple(f"j{max(0, self.ids - back)}" for back in backs)
        if act == "c":
            ids = (*ids, *(lease.id for lease in self.running()))[-3:]
        if act == "u":
            self.updates(ids[0], priority, delay)
            return
        old = by_id(self.queue.apply(TakeDump(), self.now))
        op: Op[Any] = {"c": CancelJobs(ids, "stop"), "r": RetryJobs(ids), "d": DeleteJobs(ids)}[act]
        answer = self.apply(op)
        new = by_id(self.queue.apply(TakeDump(), self.now))
        for id, changed in zip(ids, answer, strict=True):
            assert changed.id == id
            assert (changed.change is Change.UNKNOWN) == (id not in old) or ids.count(id) > 1
            if changed.change is Change.DONE and act == "c":
                assert new[id].state is State.CANCELLED, "I23"
            if changed.change is Change.REQUESTED:
                hold = new[id].life.hold
                assert hold is not None
                assert hold.cancel is not None

    def updates(self, id: str, priority: int | None, delay: int | None) -> None:
        answer = self.apply(UpdateJob(id, priority, delay))
        if answer.change is Change.DONE:
            (job,) = self.queue.apply(Load((id,)), self.now)
            assert job is not None
            assert priority is None or job.spec.priority == priority
            assert delay is None or job.life.run_at == self.now + delay

    @invariant()
    def workers_are_told_of_cancels(self) -> None:
        for member in "mn":
            self.told(member)

    def told(self, member: str) -> None:
        answer = self.queue.apply(Renew(member, (), LEASE_US), self.now)
        jobs = [job for job in self.queue.apply(Load(tuple(job.id for job in self.rows())), self.now) if job]
        asked = {job.id for job in jobs if (hold := job.life.hold) and hold.cancel and hold.member == member}
        assert {request.id for request in answer.cancels} == asked, "I23: the worker is told"

    def rows(self) -> list[Job]:
        return list(self.queue.apply(TakeDump(), self.now).jobs)

    @rule(queue=st.sampled_from("bba"), limit=st.integers(0, 3), act=st.sampled_from("prrux"))
    def runs_queues(self, queue: str, limit: int, act: str) -> None:
        if act == "p":
            self.apply(PauseQueue(queue))
            assert queue in self.queue.apply(TakeDump(), self.now).paused
        elif act == "r":
            self.apply(ResumeQueue(queue))
            assert queue not in self.queue.apply(TakeDump(), self.now).paused
        elif act == "u":
            assert self.apply(PurgeQueue(queue, limit)) <= limit
        else:
            assert self.apply(Prune(500, limit=limit)) <= limit

    @rule(limit=st.sampled_from([1, 2, 500]), again=st.booleans())
    def moves_to_another_queue(self, limit: int, again: bool) -> None:
        """All of it, page by page, and the walk goes on there: the old leases are worth nothing any more."""
        pages: list[tuple[Job, ...]] = []
        after: int | None = 0
        while after is not None:
            found = self.queue.apply(Export(after, limit), self.now)
            pages.append(found.jobs)
            after = found.next
        jobs = [job for page in pages for job in page]
        before = self.queue.apply(TakeDump(), self.now)
        assert [job.id for job in jobs] == [job.id for job in before.jobs]
        self.queue = Queue(found.aging_us)
        for queue in found.paused:
            self.queue.apply(PauseQueue(queue), self.now)
        self.last = None
        for page in pages:
            self.apply(Restore(page))
            if again:
                assert {each.change for each in self.apply(Restore(page))} <= {Change.EXISTING}, "I2: stored twice"
        after_move = self.queue.apply(TakeDump(), self.now)
        ended = {job.id for job in after_move.jobs if job.state in TERMINAL}
        assert after_move.paused == before.paused
        assert after_move.keys == tuple([(key, id) for key, id in before.keys if id not in ended or self.windows(id)])
        for job in jobs:
            self.excused[job.id] += job.state is State.RUNNING

    def windows(self, id: str) -> bool:
        """Whether this job keeps its key for a span, whatever becomes of it."""
        (job,) = self.queue.apply(Load((id,)), self.now)
        return job is not None and job.spec.unique is not None and job.spec.unique.within_us is not None

    @rule(back=st.integers(0, RECENT), renamed=st.booleans())
    def restores(self, back: int, renamed: bool) -> None:
        """A job as it is now, beside itself, or after it was deleted."""
        id = f"j{max(0, self.ids - back)}"
        (job,) = self.queue.apply(Load((id,)), self.now)
        if job is None:
            return
        if renamed:
            self.ids += 1
            job = evolve(job, spec=evolve(job.spec, id=f"j{self.ids}"))
        else:
            self.apply(DeleteJobs((id,)))
        self.apply(Restore((job,)))

    @invariant()
    def counts_and_pages_are_those_of_a_scan(self) -> None:
        jobs = self.queue.apply(Load(tuple(job.id for job in self.rows())), self.now)
        rows = sorted((job for job in jobs if job is not None), key=lambda job: -job.seq)
        stats = self.queue.apply(Count(), self.now)
        assert {(one.queue, state): number for one in stats.queues for state, number in one.counts} == Counter(
            (job.spec.queue, job.state) for job in rows
        )
        for one in stats.queues:
            ready = [job.life.run_at for job in rows if job.state is State.READY and job.spec.queue == one.queue]
            assert one.oldest_ready_us == (max(0, self.now - min(ready)) if ready else None)
        for op, wanted in (
            (Find(limit=2), rows),
            (Find((State.SUCCEEDED, State.RUNNING), limit=1), [r for r in rows if r.state in ("succeeded", "running")]),
            (Find(queue="a", task="x", tags=(("t", "1"),)), [r for r in rows if matches(r)]),
        ):
            assert self.pages(op) == wanted

    def pages(self, op: Find) -> list[Job]:
        found, after = [], None
        while True:
            page = self.queue.apply(evolve(op, after=after), self.now)
            assert len(page.jobs) <= op.limit
            found.extend(page.jobs)
            after = page.next
            if after is None:
                return found


def matches(job: Job) -> bool:
    return (job.spec.queue, job.spec.task, job.spec.tags) == ("a", "x", (("t", "1"),))


class AgingWalk(QueueWalk):
    aging_us = 300


def test_queue_obeys_every_law() -> None:
    run_state_machine_as_test(QueueWalk, settings=WALK)


def test_queue_with_aging_obeys_every_law() -> None:
    run_state_machine_as_test(AgingWalk, settings=settings(WALK, max_examples=30))


# --- planted bugs -------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, Patch] = {}


def bug(plant: Patch) -> Patch:
    BUGS[plant.__name__] = plant
    return plant


@bug
def settles_without_comparing_the_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.settle
    patch.setattr(lives, "settle", lambda job, end, now: real(job, evolve(end, fence=job.life.fence), now))


@bug
def renews_a_lease_that_is_over(patch: pytest.MonkeyPatch) -> None:
    real = lives.renew
    patch.setattr(lives, "renew", lambda life, fence, now, lease_us: real(life, fence, 0, now + lease_us))


@bug
def reaps_without_a_new_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.reap

    def reap(job: Row, now: int) -> Life | None:
        life = real(job, now)
        return None if life is None else evolve(life, fence=job.life.fence)

    patch.setattr(lives, "reap", reap)


@bug
def reaps_as_if_the_clock_never_jumped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(maintain, "_lease_again", lambda table, until, now: None)


@bug
def retries_without_a_budget(patch: pytest.MonkeyPatch) -> None:
    real = lives.verdict
    patch.setattr(lives, "verdict", lambda spec, attempt, *rest: real(spec, 0, *rest))


@bug
def snoozes_at_the_cost_of_an_attempt(patch: pytest.MonkeyPatch) -> None:
    real = lives.settle

    def settle(job: Row, end: Settlement, now: int) -> Life | None:
        life = real(job, end, now)
        return evolve(life, attempt=life.attempt + 1) if life and end.verb is Verb.SNOOZE and not life.end else life

    patch.setattr(lives, "settle", settle)


@bug
def restores_with_the_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(moving, "parked", lambda job: job)


@bug
def restores_without_a_new_fence(patch: pytest.MonkeyPatch) -> None:
    real = moving.parked
    patch.setattr(moving, "parked", lambda job: evolve(real(job), life=evolve(real(job).life, fence=job.life.fence)))


@bug
def restores_beside_the_holder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(moving, "_holder", lambda table, key, taken, now: None)


@bug
def keeps_unique_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "_free_key", lambda self, row: None)


@bug
def claims_from_paused_queues(patch: pytest.MonkeyPatch) -> None:
    real = exchange._Claim.take

    def take(self: Any) -> Any:
        paused, self.table.paused = self.table.paused, set()
        try:
            return real(self)
        finally:
            self.table.paused = paused

    patch.setattr(exchange._Claim, "take", take)


@bug
def promotes_early(patch: pytest.MonkeyPatch) -> None:
    real = exchange.promote
    patch.setattr(exchange, "promote", lambda table, lines, now, limit: real(table, lines, now + 400, limit))


@bug
def claims_in_the_order_of_time_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(exchange, "rank", lambda priority, run_at, aging: rank(0, run_at, aging))


@bug
def starts_after_the_deadline(patch: pytest.MonkeyPatch) -> None:
    def set_aside(self: Table, line: Any, row: Row, now: int) -> None:
        life = lives.claim(row.life, "m", "c", now, LEASE_US)
        self.start(line, row, life, now)

    patch.setattr(Table, "set_aside", set_aside)


@bug
def counts_no_lost_worker(patch: pytest.MonkeyPatch) -> None:
    real = lives.reap

    def reap(job: Row, now: int) -> Life | None:
        life = real(job, now)
        return None if life is None else evolve(life, lost_count=0)

    patch.setattr(lives, "reap", reap)


@bug
def claims_anew_for_a_resend(patch: pytest.MonkeyPatch) -> None:
    real = exchange._Claim.__init__

    def init(self: Any, table: Table, op: Exchange, now: int) -> None:
        real(self, table, evolve(op, claim_id=f"{op.claim_id}'") if op.claim_id in table.claims else op, now)

    patch.setattr(exchange._Claim, "__init__", init)


@bug
def enqueues_beside_the_holder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "holder", lambda self, key, now: None)


@bug
def replaces_what_has_started(patch: pytest.MonkeyPatch) -> None:
    real = lives.replaced
    patch.setattr(
        enqueue, "replaced", lambda job, spec, now: real(evolve(job, life=evolve(job.life, fence=0)), spec, now)
    )


@bug
def forgets_a_cancellation(patch: pytest.MonkeyPatch) -> None:
    real = lives.verdict
    patch.setattr(lives, "verdict", lambda spec, attempt, unfit, cancel, end: real(spec, attempt, unfit, None, end))


@bug
def miscounts_a_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "_uncount", lambda self, queue, state: None)


@pytest.mark.parametrize("plant", BUGS.values(), ids=BUGS.keys())
def test_planted_bugs_are_found(plant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError, TypeError)):
        run_state_machine_as_test(QueueWalk, settings=HUNT)
