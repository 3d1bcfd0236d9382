"""Random ops of every kind, few names and close instants, so that walks meet each other's corners all the time.

What chooses is handed in: a generator with a seed inside check_store, Hypothesis in property tests. So both walk by
one description of what may be asked of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, Protocol, TypeVar

from attrs import evolve

from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Failure, Job, Progress, Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    DeleteJobs,
    Enqueue,
    Exchange,
    Export,
    Find,
    Lease,
    LeaseProgress,
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
    UpdateJob,
)

T = TypeVar("T")


class Chooser(Protocol):
    """Where chance comes from."""

    def one_of(self, values: Sequence[T]) -> T: ...

    def number(self, least: int, most: int) -> int: ...


class Seeded:
    """The same choices for the same generator."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def one_of(self, values: Sequence[T]) -> T:
        return values[self._rng.randrange(len(values))]

    def number(self, least: int, most: int) -> int:
        return self._rng.randint(least, most)


LEASE_US: Final[Micros] = 2 * SECOND
STEPS_US: Final = [0, 0, 0, 1, 500_000, 1_000_000, 2_000_000, 3_000_001, 7_000_000, 40_000_000]
TASKS: Final = ["x", "y", "z", "v", "w"]
IDS: Final = [f"j{number:02}" for number in range(14)]
ENDS: Final = [Verb.SUCCEED, Verb.SUCCEED, Verb.SUCCEED, Verb.FAIL, Verb.RETRY, Verb.SNOOZE, Verb.RELEASE, Verb.CANCEL]
FAILURE: Final = Failure("E", "bad \ud800\x00 text", "trace", ("E", "Exception"))
KINDS: Final[list[dict[str, Any]]] = [
    {},
    {},
    {"max_attempts": 3},
    {"max_attempts": 2, "max_lost": 2, "tags": (("t", "1"), ("u", "2"))},
    {"priority": 5, "result_ttl_us": 0},
    {"task": "y", "priority": -5},
    {"task": "z", "max_attempts": 2, "max_lost": 2},
    {"delay_us": 500_000},
    {"delay_us": 3_000_000, "priority": 1, "task": "y"},
    {"at": 54 * SECOND},
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
    given: dict[str, Any] = {"task": "x", "payload": b"%d" % kind, "result_ttl_us": 2 * SECOND} | KINDS[kind]
    return Spec(id, queue=queue, retention_us=6 * SECOND, retention_failed_us=12 * SECOND, **given)


class Requests:
    """Sensible requests to a store: it remembers which leases were handed out, and what was sent before."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.handed: list[Lease] = []
        self.sent: list[Op[Any]] = []
        self.seen: list[Job] = []  # as they were when they were exported
        self._works = 0

    def next(self) -> Op[Any]:
        """Any op; half of them are what workers and clients do most."""
        kind = self.chooser.number(0, 19)
        if kind < 6:
            return Enqueue(self.batch())
        if kind < 11:
            return self.exchange()
        if kind < 13:
            return self.renewal()
        if kind < 15 and self.sent:
            return self.chooser.one_of(self.sent)
        return self.other()

    def answered(self, op: Op[Any], answer: Any) -> None:
        """What the answer taught."""
        claimed = getattr(answer, "claimed", ())
        self.handed = [*(Lease(job.id, job.fence) for job in claimed), *self.handed][:12]
        if isinstance(op, Export):
            self.seen = [*getattr(answer, "jobs", ()), *self.seen][:24]
        if isinstance(op, Exchange | Enqueue | Renew | Restore):
            self.sent = [op, *self.sent][:6]

    def batch(self) -> tuple[Spec, ...]:
        """One to four specs, now and then one of them twice."""
        pick = self.chooser.one_of
        return tuple(
            [
                spec(pick(IDS), self.chooser.number(0, len(KINDS) - 1), pick(["a", "a", "a", "b"]))
                for _ in range(pick([1, 1, 1, 2, 3, 4]))
            ]
        )

    def exchange(self) -> Exchange:
        pick = self.chooser.one_of
        chosen = self.some_leases(3)
        return Exchange(
            pick(["m1", "m2"]),
            f"c{self.chooser.number(0, 5)}" if pick([0, 1, 1]) else self._fresh(),
            pick([0, 1, 2, 5]),
            pick([("a",), ("a", "b"), ("b", "a"), ("b",), ("c", "a", "a")]),
            pick([("x",), ("y", "x"), tuple(TASKS), tuple(TASKS), tuple(TASKS), ("q",), ()]),
            LEASE_US,
            tuple([self.settlement(lease) for lease in chosen]),
            tuple([LeaseProgress(lease.id, lease.fence, Progress(0.5, 1, "half")) for lease in chosen[:1]]),
            pick([0, 1, 1, 2]),
        )

    def _fresh(self) -> str:
        self._works += 1
        return f"w{self._works}"

    def settlement(self, lease: Lease) -> Settlement:
        pick = self.chooser.one_of
        verb = pick(ENDS)
        success = verb is Verb.SUCCEED
        return Settlement(
            lease.id,
            lease.fence + pick([0, 0, 0, 0, 0, -1, 1]),
            verb,
            pick([b"null", b"null", None]) if success else None,
            pick([0, 500_000]) if verb in (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE) else 0,
            FAILURE if verb in (Verb.FAIL, Verb.RETRY) else None,
            reason=None if success else pick([None, "", "why"]),
            result_dropped=pick([None, None, "too large"]) if success else None,
            unfit=verb is Verb.RELEASE and pick([True, False]),
            spawn=self.batch() if pick([0, 0, 0, 1]) else (),
        )

    def renewal(self) -> Renew:
        chosen = tuple(self.some_leases(4))
        progress = tuple([LeaseProgress(lease.id, lease.fence, Progress(1.0)) for lease in chosen[:2]])
        return Renew("m1", chosen, LEASE_US, progress)

    def some_leases(self, most: int) -> list[Lease]:
        if not self.handed:
            return []
        return [self.chooser.one_of(self.handed) for _ in range(self.chooser.number(0, most))]

    def other(self) -> Op[Any]:
        """What neither clients nor workers ask for."""
        pick = self.chooser.one_of
        ids = tuple([pick(IDS) for _ in range(pick([1, 2, 4]))])
        limit = pick([1, 2, 1_000])
        kind = self.chooser.number(0, 11)
        if kind < 3:
            return Maintain(LEASE_US, limit)
        if kind < 6:
            return pick([CancelJobs(ids, pick(["", "why \udfff"])), RetryJobs(ids, "me"), DeleteJobs(ids[:1])])
        if kind == 6:
            priority, delay = pick([(None, 0), (3, None), (-3, 1_000_000), (None, None), (1 << 20, None)])
            return UpdateJob(ids[0], priority, delay)
        if kind == 7:
            return pick([PauseQueue("a"), PauseQueue(""), *[ResumeQueue("a"), ResumeQueue("b")] * 2])
        if kind == 8:
            states = pick([(State.SUCCEEDED,), (State.FAILED, State.SUCCEEDED, State.READY), tuple(State)])
            return pick([PurgeQueue("a", 2), PurgeQueue("b"), *[Prune(pick([0, 1_000_000]), states, limit)] * 2])
        if kind == 9:
            return Export(0, pick([2, 500]))
        if kind == 10:
            return self.restore()
        found = pick([(), (pick(list(State)),), (State.FAILED, State.RUNNING)])
        return Find(found, pick([None, "a"]), None, pick([(), (("t", "1"),)]), None, pick([2, 100]))

    def restore(self) -> Restore:
        """Jobs as they were some time ago, under their ids or others; none twice."""
        pick = self.chooser.one_of
        jobs = [pick(self.seen) for _ in range(pick([1, 2, 4]))] if self.seen else []
        named = {pick([job.id, job.id, pick(IDS)]): job for job in jobs}
        return Restore(tuple([evolve(job, spec=evolve(job.spec, id=id)) for id, job in named.items()]))
