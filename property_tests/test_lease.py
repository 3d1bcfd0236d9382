"""Two owners, one job: whatever they send, and however late, only the last to have claimed it is heard.

Each owner keeps every lease that it was ever given and goes on using it, as a worker does that was stopped for an
hour. A stale op must be the identity on the store.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from taskweave.core import life as lives
from taskweave.core.ids import Fence, Micros
from taskweave.core.job import TERMINAL, Job, Life, Progress, Spec, State, Verb
from taskweave.core.queue import Queue
from taskweave.core.queue.table import Row, Table
from taskweave.core.verbs import (
    CancelJobs,
    Dump,
    Enqueue,
    Exchange,
    Lease,
    LeaseProgress,
    Load,
    Maintain,
    Renew,
    RetryJobs,
    Settlement,
    TakeDump,
)

LEASE_US = 1_000
WALK = settings(max_examples=80, stateful_step_count=40, derandomize=True, deadline=None)
HUNT = settings(WALK, phases=[Phase.generate], max_examples=5_000, report_multiple_bugs=False, print_blob=False)

owners = st.sampled_from("mn")
AGAIN = [Verb.RETRY, Verb.SNOOZE, Verb.RELEASE, Verb.RELEASE]
verbs = st.sampled_from([*AGAIN, *AGAIN, Verb.SUCCEED, Verb.FAIL])


class LeaseWalk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.now = 10_000
        self.queue.apply(
            Enqueue((Spec("id", "t", "q", b"", max_attempts=9, max_lost=9, retention_us=10**9),)), self.now
        )
        self.claims = 0
        self.given: list[tuple[str, Fence, Micros]] = []  # owner, fence, end of the lease as the store said
        self.settled: Fence | None = None
        self.outcomes: dict[Fence, tuple[Verb, int]] = {}  # what was accepted

    def job(self) -> Job:
        (job,) = self.queue.apply(Load(("id",)), self.now)
        assert job is not None, "I1"
        return job

    def dump(self) -> Dump:
        return self.queue.apply(TakeDump(), self.now)

    @initialize(owner=owners)
    def begins(self, owner: str) -> None:
        self.claims_it(owner)

    @rule(owner=owners)
    def claims_it(self, owner: str) -> None:
        before = self.job()
        self.claims += 1
        answer = self.queue.apply(Exchange(owner, f"c{self.claims}", 1, ("q",), ("t",), LEASE_US), self.now)
        for claimed in answer.claimed:
            assert before.state is not State.RUNNING, "taken from an owner whose lease was not reaped"
            assert all(claimed.fence > fence for _, fence, _ in self.given), "a fence was given twice"
            self.given.append((owner, claimed.fence, self.now + LEASE_US))

    @rule(pick=st.sampled_from([0, 0, 1, 2]), verb=verbs, delay=st.sampled_from([0, 0, 300]), again=st.booleans())
    def settles(self, pick: int, verb: Verb, delay: int, again: bool) -> None:
        """Whatever became of the lease since; again: what this owner sent under it before."""
        if not self.given:
            return
        owner, fence, _ = self.given[-1 - pick % len(self.given)]
        if again:
            verb, delay = self.outcomes.get(fence, (verb, delay))
        before, dump = self.job(), self.dump()
        end = Settlement("id", fence, verb, b"1" if verb is Verb.SUCCEED else None, delay)
        answer = self.queue.apply(Exchange(owner, "", 0, (), (), LEASE_US, (end,)), self.now)
        mine = before.state is State.RUNNING and before.life.fence == fence
        repeat = fence == self.settled and self.outcomes[fence] == (verb, delay)  # the store remembers the last one
        assert (answer.refused == ()) == (mine or repeat), f"I4: {verb} under fence {fence} on {before.life}"
        if mine:
            self.outcomes[fence] = (verb, delay)
            self.settled = fence
            assert self.job().state is not State.RUNNING
        else:
            assert self.dump() == dump, "I4: a stale settlement is the identity"

    @rule(pick=st.sampled_from([0, 0, 1, 2]), progresses=st.booleans())
    def renews(self, pick: int, progresses: bool) -> None:
        if not self.given:
            return
        index = len(self.given) - 1 - pick % len(self.given)
        owner, fence, until = self.given[index]
        before, dump = self.job(), self.dump()
        progress = (LeaseProgress("id", fence, Progress(self.now)),) if progresses else ()
        answer = self.queue.apply(Renew(owner, (Lease("id", fence),), LEASE_US, progress), self.now)
        running = before.state is State.RUNNING and before.life.fence == fence
        alive = running and self.now < until
        assert (answer.lost == ()) == alive, f"I4: renewed at {self.now} what ended at {until}"
        if alive:
            self.given[index] = owner, fence, self.now + LEASE_US
        elif not (running and progresses):
            assert self.dump() == dump, "I4: a stale renewal is the identity"

    @rule()
    def an_operator_acts(self) -> None:
        self.queue.apply(CancelJobs(("id",)) if self.job().state is State.RUNNING else RetryJobs(("id",)), self.now)

    @rule(span=st.sampled_from([1, 300, LEASE_US - 1, LEASE_US]), maintain=st.booleans())
    def time_passes(self, span: int, maintain: bool) -> None:
        self.now += span
        if maintain:
            before = self.job()
            reaped = self.queue.apply(Maintain(LEASE_US), self.now).reaped
            over = before.life.hold is not None and self.now >= self.given[-1][2]
            assert reaped == over, f"reaped {reaped} at {self.now}: {self.given[-1:]}"
            assert not over or self.job().state in TERMINAL or self.job().life.fence == before.life.fence + 1

    @invariant()
    def the_hold_is_the_last_ones(self) -> None:
        life = self.job().life
        if life.hold is not None:
            assert (life.hold.member, life.fence, life.hold.lease_until) == self.given[-1]
        accepted = [fence for fence in self.outcomes if self.outcomes[fence][0] is Verb.SUCCEED]
        assert len(accepted) <= 1, "I8: it succeeded twice"
        assert not accepted or life.state is State.SUCCEEDED, "I5: a success was undone"
        assert life.state in TERMINAL or life.fence >= max((fence for _, fence, _ in self.given), default=0)
        self.queue.check()


def test_only_the_last_owner_is_heard() -> None:
    run_state_machine_as_test(LeaseWalk, settings=WALK)


# --- planted bugs -------------------------------------------------------------------------------------------------


def settles_without_comparing_the_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.settle
    patch.setattr(lives, "settle", lambda job, end, now: real(job, evolve(end, fence=job.life.fence), now))


def renews_without_comparing_the_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.renew
    patch.setattr(lives, "renew", lambda life, fence, now, lease_us: real(life, life.fence, now, lease_us))


def renews_a_lease_that_is_over(patch: pytest.MonkeyPatch) -> None:
    real = lives.renew
    patch.setattr(lives, "renew", lambda life, fence, now, lease_us: real(life, fence, 0, now + lease_us))


def progress_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.progressed
    patch.setattr(lives, "progressed", lambda life, fence, progress: real(life, life.fence, progress))


def reaps_without_a_new_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.reap

    def reap(job: Row, now: Micros) -> Life | None:
        life = real(job, now)
        return None if life is None else evolve(life, fence=job.life.fence)

    patch.setattr(lives, "reap", reap)


def claims_without_a_new_fence(patch: pytest.MonkeyPatch) -> None:
    real = lives.claim
    patch.setattr(lives, "claim", lambda life, *rest: evolve(real(life, *rest), fence=max(1, life.fence - 1)))


def reaps_by_the_first_lease(patch: pytest.MonkeyPatch) -> None:
    real = Table.step

    def step(self: Table, row: Row, life: Life, now: Micros) -> None:
        if life.hold is not None and row.life.hold is not None:
            life = evolve(life, hold=evolve(life.hold, lease_until=row.life.hold.lease_until))
        real(self, row, life, now)

    patch.setattr(Table, "step", step)


def forgets_what_it_settled(patch: pytest.MonkeyPatch) -> None:
    real = lives.settle

    def settle(job: Row, end: Settlement, now: Micros) -> Life | None:
        life = real(job, end, now)
        return None if life is None else evolve(life, settled=None)

    patch.setattr(lives, "settle", settle)


@pytest.mark.parametrize(
    "plant",
    [
        settles_without_comparing_the_fence,
        renews_without_comparing_the_fence,
        renews_a_lease_that_is_over,
        progress_without_a_fence,
        reaps_without_a_new_fence,
        claims_without_a_new_fence,
        reaps_by_the_first_lease,
        forgets_what_it_settled,
    ],
)
def test_planted_bugs_are_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(LeaseWalk, settings=HUNT)
