"""SQLite walks beside the queue machine: the same ops at the same instants give the same answers and the same rows.

The machine is the meaning of every store (core.queue). The verbs of the SQLite store are plain functions of a
connection, so they run here inline, without a driver or a thread; a shorter walk goes through the real store on each
runtime. Planted bugs, each a mistake that a store in SQL invites, must be found by the same walk.

Two things are not compared: the order of the jobs in the answer to a repeated claim, and that of cancel requests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from taskweave.core.ids import SECOND
from taskweave.core.job import Failure, Job, Progress, Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Exchanged,
    Export,
    Exported,
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
    Renewed,
    Restore,
    ResumeQueue,
    RetryJobs,
    Settlement,
    TakeDump,
    UpdateJob,
)
from taskweave.exceptions import StoreError, TaskweaveError
from taskweave.stores._sqlite import enqueue as enqueue_module
from taskweave.stores._sqlite import exchange as exchange_module
from taskweave.stores._sqlite import maintain as maintain_module
from taskweave.stores._sqlite import moving as moving_module
from taskweave.stores._sqlite import settle as settle_module
from taskweave.stores._sqlite import turn as turn_module
from taskweave.stores._sqlite.connection import Settings, StoreConnection, connect
from taskweave.stores._sqlite.inspect import problems
from taskweave.stores._sqlite.schema import bring_up
from taskweave.stores._sqlite.verbs import apply
from taskweave.stores.clock import SystemClock
from taskweave.stores.sqlite import SQLiteTaskStore

FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # what is proved here is not durability
START = 50 * SECOND
LEASE_US = 2 * SECOND
STEPS = [0, 0, 0, 1, 500_000, 1_000_000, 2_000_000, 3_000_001, 7_000_000, 40_000_000]

IDS = [f"j{number:02}" for number in range(14)]
TASKS = ["x", "y", "z", "v", "w"]
KINDS: list[dict[str, Any]] = [
    {},
    {},
    {"max_attempts": 3},
    {"max_attempts": 2, "max_lost": 2, "tags": (("t", "1"), ("u", "2"))},
    {"priority": 5, "result_ttl_us": 0},
    {"task": "y", "priority": -5},
    {"task": "z", "max_attempts": 2, "max_lost": 2},
    {"delay_us": 500_000},
    {"delay_us": 3_000_000, "priority": 1, "task": "y"},
    {"at": START + 4 * SECOND},
    {"expires_in_us": 1},
    {"expires_in_us": 1_500_000, "max_attempts": 3, "priority": 2},
    {"at_most_once": True},
    {"trace": "00-abc", "timeout_us": 5, "codec": "raw", "version": 2},
    {"unique": UniqueKey("k")},
    {"unique": UniqueKey("k", on_conflict="replace"), "delay_us": 1_000_000, "task": "y"},
    {"unique": UniqueKey("k", "started", on_conflict="replace"), "max_attempts": 2},
    {"unique": UniqueKey("k", None, 2_000_000, "raise"), "max_attempts": 2},
    {"unique": UniqueKey("l", None, 2_000_000, "replace")},
    {"unique": UniqueKey("l", "started"), "expires_in_us": 1_000_000},
]


def spec(id: str, kind: int, queue: str) -> Spec:
    given_fields: dict[str, Any] = {"task": "x", "payload": b"%d" % kind, "result_ttl_us": 2 * SECOND} | KINDS[kind]
    return Spec(id, queue=queue, retention_us=6 * SECOND, retention_failed_us=12 * SECOND, **given_fields)


specs = st.builds(spec, st.sampled_from(IDS), st.integers(0, len(KINDS) - 1), st.sampled_from(["a", "a", "a", "b"]))
batches = st.lists(specs, min_size=1, max_size=4).map(tuple)
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4).map(tuple)
queues = st.sampled_from([("a",), ("a", "b"), ("b", "a"), ("b",), ("c", "a", "a")])
ENDS = [Verb.SUCCEED, Verb.SUCCEED, Verb.SUCCEED, Verb.FAIL, Verb.RETRY, Verb.SNOOZE, Verb.RELEASE, Verb.CANCEL]
FAILURE = Failure("E", "bad \ud800 text", "trace", ("E", "Exception"))
limits = st.sampled_from([1, 2, 1_000])


@st.composite
def operations(draw: st.DrawFn) -> Op[Any]:
    """Everything but what needs to know which jobs run."""
    kind = draw(st.integers(0, 17))
    if kind < 6:
        return Enqueue(draw(batches))
    if kind < 8:
        return Maintain(LEASE_US, draw(limits))
    if kind == 8:
        return CancelJobs(draw(ids), draw(st.sampled_from(["", "why \udfff"])))
    if kind == 9:
        return RetryJobs(draw(ids), "me")
    if kind == 10:
        return DeleteJobs(draw(ids))
    if kind == 11:
        priority, delay = draw(st.sampled_from([(None, 0), (3, None), (-3, 1_000_000), (None, None), (1 << 20, None)]))
        return UpdateJob(draw(st.sampled_from(IDS)), priority, delay)
    if kind == 12:
        return draw(st.sampled_from([PauseQueue("a"), PauseQueue("b"), PauseQueue("")]))
    if kind < 15:
        return draw(st.sampled_from([ResumeQueue("a"), ResumeQueue("b")]))
    if kind == 15:
        return draw(st.sampled_from([PurgeQueue("a", 2), PurgeQueue("b", 0), PurgeQueue("a")]))
    if kind == 16:
        states = draw(st.sampled_from([(State.SUCCEEDED,), (State.FAILED, State.SUCCEEDED, State.READY), tuple(State)]))
        return Prune(draw(st.sampled_from([0, 1_000_000])), states, draw(limits))
    found = draw(st.lists(st.sampled_from(list(State)), max_size=3).map(tuple))
    after = draw(st.sampled_from([None, None, 5]))
    return Find(found, draw(st.sampled_from([None, "a"])), None, draw(st.sampled_from([(), (("t", "1"),)])), after, 3)


class Walk:
    """The machine and the store side by side, with what a test needs to make sensible requests."""

    def __init__(self, aging_us: int | None = None, jobs_max: int | None = None) -> None:
        self.queue = Queue(aging_us, 1_000_000 if jobs_max is None else jobs_max)
        self.now = START
        self.works = 0
        self.repeat = False  # the last op repeated a claim
        self.handed: list[Lease] = []
        self.sent: list[Op[Any]] = []
        self.seen: list[Job] = []  # as they were at some time

    def expected(self, op: Op[Any]) -> Any:
        self.repeat = isinstance(op, Exchange) and op.claim_id in self.queue._table.claims
        try:
            return self.queue.apply(op, self.now)
        except TaskweaveError as error:
            return type(error)

    def compare(self, op: Op[Any], expected: Any, answer: Any) -> None:
        assert comparable(answer, self.repeat) == comparable(expected, self.repeat), f"{op} at {self.now}"
        if isinstance(expected, Exchanged):
            self.handed = [*(Lease(job.id, job.fence) for job in expected.claimed), *self.handed][:12]
        if isinstance(expected, Exported):
            self.seen = [*expected.jobs, *self.seen][:24]
        if isinstance(op, Exchange | Enqueue | Renew | Restore):
            self.sent = [op, *self.sent][:6]


def comparable(answer: Any, repeat: bool = False) -> Any:
    if isinstance(answer, Exchanged):
        claimed = by_id(answer.claimed) if repeat else answer.claimed
        return evolve(answer, claimed=claimed, cancels=by_id(answer.cancels))
    if isinstance(answer, Renewed):
        return evolve(answer, cancels=by_id(answer.cancels))
    return answer


def by_id(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(values, key=lambda value: value.id))


@st.composite
def settlements(draw: st.DrawFn, lease: Lease) -> Settlement:
    verb = draw(st.sampled_from(ENDS))
    delayed = verb in (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE)
    return Settlement(
        lease.id,
        lease.fence + draw(st.sampled_from([0, 0, 0, 0, 0, -1, 1])),
        verb,
        draw(st.sampled_from([b"null", b"null", None])) if verb is Verb.SUCCEED else None,
        draw(st.sampled_from([0, 500_000])) if delayed else 0,
        FAILURE if verb in (Verb.FAIL, Verb.RETRY) else None,
        reason=draw(st.sampled_from([None, "", "why"])) if verb is not Verb.SUCCEED else None,
        result_dropped=draw(st.sampled_from([None, None, "too large"])) if verb is Verb.SUCCEED else None,
        unfit=verb is Verb.RELEASE and draw(st.booleans()),
        spawn=draw(batches) if draw(st.integers(0, 4)) == 0 else (),
    )


def some(handed: list[Lease], most: int) -> st.SearchStrategy[list[Lease]]:
    return st.lists(st.sampled_from(handed), max_size=most) if handed else st.just([])


@st.composite
def exchanges(draw: st.DrawFn, handed: list[Lease]) -> Exchange:
    chosen = draw(some(handed, 3))
    return Exchange(
        draw(st.sampled_from(["m1", "m2"])),
        f"c{draw(st.integers(0, 5))}",
        draw(st.sampled_from([0, 1, 2, 5])),
        draw(queues),
        draw(st.sampled_from([("x",), ("y", "x"), tuple(TASKS), tuple(TASKS), ("q",), ()])),
        LEASE_US,
        tuple([draw(settlements(lease)) for lease in chosen]),
        tuple([LeaseProgress(lease.id, lease.fence, Progress(0.5, 1, "half")) for lease in chosen[:1]]),
        draw(st.sampled_from([0, 1, 1, 2])),
    )


@st.composite
def renewals(draw: st.DrawFn, handed: list[Lease]) -> Renew:
    chosen = tuple(draw(some(handed, 4)))
    progress = tuple([LeaseProgress(lease.id, lease.fence, Progress(1.0)) for lease in chosen[:2]])
    return Renew("m1", chosen, LEASE_US, progress)


@st.composite
def restores(draw: st.DrawFn, seen: list[Job]) -> Restore:
    """Some of the jobs that were seen, under their ids or new ones; rarely one that no store could have written."""
    chosen = draw(st.lists(st.sampled_from(seen), max_size=4)) if seen else []
    jobs = [
        evolve(job, spec=evolve(job.spec, id=draw(st.sampled_from([job.id, job.id, f"r{draw(st.integers(0, 5))}"]))))
        for job in chosen
    ]
    if jobs and draw(st.integers(0, 9)) == 0:
        jobs[0] = evolve(jobs[0], life=evolve(jobs[0].life, attempt=99))
    return Restore(tuple(jobs))


class Agreement(RuleBasedStateMachine):
    aging_us: int | None = None
    jobs_max: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="taskweave-", dir=FOLDER)
        self.walk = Walk(self.aging_us, self.jobs_max)
        self.connection = opened(Path(self.folder.name) / "jobs.db", self.aging_us, self.jobs_max)

    def teardown(self) -> None:
        try:
            assert problems(self.connection) == [], "I26: a column that does not follow from the job's state"
        finally:
            self.connection.close()
            self.folder.cleanup()

    def both(self, op: Op[Any]) -> None:
        walk = self.walk
        expected = walk.expected(op)
        walk.compare(op, expected, answered(self.connection, op, walk.now))
        for look in (TakeDump(), Count(), Load(("j00", "nobody", "j01"))):
            walk.compare(look, walk.expected(look), answered(self.connection, look, walk.now))

    @rule(step=st.sampled_from(STEPS))
    def time_passes(self, step: int) -> None:
        self.walk.now += step

    @rule(op=operations())
    def any_op(self, op: Op[Any]) -> None:
        self.both(op)

    @rule(batch=batches)
    def enqueues(self, batch: tuple[Spec, ...]) -> None:
        unique_ids = {each.id: each for each in batch}
        self.both(Enqueue(tuple(unique_ids.values())))

    @rule(data=st.data())
    def exchanges(self, data: st.DataObject) -> None:
        self.both(data.draw(exchanges(self.walk.handed)))

    @rule(after=st.sampled_from([0, 0, 3, 1_000]), limit=st.sampled_from([0, 2, 500]))
    def exports(self, after: int, limit: int) -> None:
        self.both(Export(after, limit))

    @rule(data=st.data(), step=st.sampled_from(STEPS))
    def restores(self, data: st.DataObject, step: int) -> None:
        """Jobs as they were at some earlier time: gone since, or there still, or another holds their key now."""
        self.walk.now += step
        self.both(data.draw(restores(self.walk.seen)))

    @rule(verbs=st.lists(st.sampled_from(ENDS), min_size=1, max_size=3))
    def works(self, verbs: list[Verb]) -> None:
        """What a worker does most: claim, and settle all but one of it; plain successes above all."""
        walk = self.walk
        walk.works += 1
        self.both(Exchange("m1", f"w{walk.works}", len(verbs) + 1, ("a", "b"), tuple(TASKS), LEASE_US))
        taken = walk.handed[: len(verbs)]
        ends = [Settlement(lease.id, lease.fence, verb, b"1") for lease, verb in zip(taken, verbs, strict=False)]
        self.both(Exchange("m1", f"v{walk.works}", 0, (), (), LEASE_US, tuple(ends)))

    @rule(op=st.sampled_from([PauseQueue("a"), ResumeQueue("a"), ResumeQueue("a"), ResumeQueue("b")]))
    def pauses(self, op: Op[Any]) -> None:
        self.both(op)

    @rule(limit=limits, step=st.sampled_from([0, 1_000_000, LEASE_US, LEASE_US]))
    def maintains(self, limit: int, step: int) -> None:
        """At instants that other instants are a lease or a retention before: the edges of "expired" are met."""
        self.walk.now += step
        self.both(Maintain(LEASE_US, limit))

    @rule(data=st.data())
    def renews(self, data: st.DataObject) -> None:
        self.both(data.draw(renewals(self.walk.handed)))

    @rule(data=st.data())
    def resends(self, data: st.DataObject) -> None:
        if self.walk.sent:
            self.both(data.draw(st.sampled_from(self.walk.sent)))


class WithAging(Agreement):
    aging_us = 1_000_000


class Bounded(Agreement):
    jobs_max = 6


def opened(path: Path, aging_us: int | None, jobs_max: int | None) -> StoreConnection:
    connection = connect(Settings(str(path), "the store", SystemClock(), aging_us=aging_us, jobs_max=jobs_max))
    bring_up(connection)
    return connection


def answered(connection: StoreConnection, op: Op[Any], at: int) -> Any:
    try:
        return apply(connection, op, at)
    except TaskweaveError as error:
        return type(error)


WALK = settings(max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(WALK, max_examples=10, stateful_step_count=200)
HUNT = settings(WALK, phases=[Phase.generate], max_examples=2_000, report_multiple_bugs=False, print_blob=False)


@pytest.mark.proves(142)
@pytest.mark.parametrize("machine", [Agreement, WithAging, Bounded])
def test_sqlite_agrees_with_the_queue_machine(machine: type[Agreement]) -> None:
    run_state_machine_as_test(machine, settings=WALK)


def test_sqlite_agrees_over_a_long_walk() -> None:
    run_state_machine_as_test(Agreement, settings=LONG)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_real_store_agrees_on_each_runtime(backend: str, data: st.DataObject) -> None:
    async def walk_through(folder: str) -> None:
        walk = Walk()
        async with SQLiteTaskStore(Path(folder) / "jobs.db") as store, store.another() as second:
            for step in range(40):
                walk.now += data.draw(st.sampled_from(STEPS))
                sent = [st.sampled_from(walk.sent)] if walk.sent else []
                moves = [st.just(Export()), restores(walk.seen)]
                op = data.draw(st.one_of(operations(), exchanges(walk.handed), renewals(walk.handed), *moves, *sent))
                asked = second if step % 3 == 0 else store
                for each in (op, TakeDump()):
                    expected = walk.expected(each)
                    try:
                        answer = await asked.apply(each, at=walk.now)
                    except TaskweaveError as error:
                        answer = type(error)
                    walk.compare(each, expected, answer)

    with tempfile.TemporaryDirectory(prefix="taskweave-") as folder:
        anyio.run(walk_through, folder, backend=backend)


# --- planted bugs -------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, Patch] = {}


def bug(plant: Patch) -> Patch:
    BUGS[plant.__name__] = plant
    return plant


def reworded(patch: pytest.MonkeyPatch, module: Any, name: str, old: str, new: str) -> None:
    """Change one statement of the store; the old words must be there, else the bug is not planted."""
    sql = getattr(module, name)
    assert old in sql
    patch.setattr(module, name, sql.replace(old, new))


@bug
def claims_without_a_new_fence(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, exchange_module, "_CLAIM", "fence = fence + 1", "fence = fence")


@bug
def succeeds_under_a_stale_fence(patch: pytest.MonkeyPatch) -> None:
    def load(turn: Any, settlements: Any, ids: Any) -> Any:
        fences = {row.spec.id: row.life.fence for row in turn.rows_by_id(ids).values()}
        return succeed(turn, tuple([evolve(end, fence=fences.get(end.id, end.fence)) for end in settlements]), ids)

    succeed = settle_module._succeed_plainly
    patch.setattr(settle_module, "_succeed_plainly", load)


@bug
def succeeds_without_its_token(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, settle_module, "_SUCCEED", "settled_digest = ?", "settled_digest = 0 * ?")


@bug
def keeps_results_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle_module, "success_chores", lambda rest, with_result: (1, 6 * SECOND, 6 * SECOND))


@bug
def claims_from_paused_queues(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(exchange_module, "_PAUSED", "SELECT queue FROM pause WHERE queue = 'nothing'")


@bug
def claims_in_the_order_of_arrival(patch: pytest.MonkeyPatch) -> None:
    words = exchange_module._READY[0].replace("ORDER BY rank_a, rank_b, seq", "ORDER BY seq")
    patch.setattr(exchange_module, "_READY", (words,))


@bug
def reaps_a_moment_late(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, maintain_module, "_LAPSED", "lease_until <= ?", "lease_until < ?")


@bug
def promotes_only_the_first_queue(patch: pytest.MonkeyPatch) -> None:
    real = exchange_module.promote
    patch.setattr(exchange_module, "promote", lambda turn, queues, limit: real(turn, queues[:1], limit))


@bug
def finds_no_holder_of_a_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(turn_module.Turn, "holder", lambda self, key: None)


@bug
def takes_lapsed_windows_for_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(turn_module, "holds_key", lambda row, now: True)


@bug
def stores_half_a_batch(patch: pytest.MonkeyPatch) -> None:
    """A batch with a job that is there already is not taken back before it is planned."""
    real = enqueue_module.add

    def add(turn: Any, specs: Any) -> None:
        for spec in specs:
            real(turn, [spec])

    patch.setattr(enqueue_module, "_ROLLBACK", "SELECT 1")
    patch.setattr(enqueue_module, "add", add)


@bug
def restores_a_running_job_as_running(patch: pytest.MonkeyPatch) -> None:
    """With its hold, of a claim that this store never made."""
    patch.setattr(moving_module, "parked", lambda job: job)


@bug
def restores_beside_the_holder_of_a_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(moving_module._Plan, "_holder", lambda self, key: None)


@bug
def restores_what_is_there_already(patch: pytest.MonkeyPatch) -> None:
    real = moving_module._Plan.__init__
    patch.setattr(moving_module._Plan, "__init__", lambda self, turn, known: real(self, turn, {}))


@bug
def exports_from_the_wrong_place(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, moving_module, "_EXPORT", "seq > ?", "seq >= ?")


@bug
def forgets_what_a_claim_took(patch: pytest.MonkeyPatch) -> None:
    reworded(patch, turn_module, "_BY_SEQ", "WHERE seq IN", "WHERE state <> 2 AND seq IN")


@pytest.mark.parametrize("plant", BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_found(plant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError, StoreError)):  # a wrong answer, or a row that is not where it must be
        run_state_machine_as_test(Agreement, settings=HUNT)
