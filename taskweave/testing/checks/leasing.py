"""Leases: renewed only while they last, reaped exactly at their end, and never after a jump of the clock."""

from __future__ import annotations

from taskweave.core.ids import MILLISECOND, SECOND
from taskweave.core.job import Progress, State, Verb
from taskweave.core.verbs import CancelJobs, Lease, LeaseProgress, Load
from taskweave.testing.checks.registry import Run, add, proves
from taskweave.testing.pair import LEASE_US, Pair, meets


def _reaped(early_us: int, wanted: int) -> Run:
    async def run(pair: Pair) -> None:
        lease = await pair.start()
        pair.passes(LEASE_US - early_us)
        meets((await pair.maintain()).reaped, wanted, "reaped")
        meets(await pair.fence(lease.id), lease.fence + wanted, "the fence")

    return run


def _renewed(early_us: int, wanted: bool) -> Run:
    async def run(pair: Pair) -> None:
        lease = await pair.start()
        pair.passes(LEASE_US - early_us)
        meets((await pair.renew(lease)).lost, () if wanted else (lease,), "lost")

    return run


for _name, _early in (("a_millisecond_before", MILLISECOND), ("a_microsecond_before", 1)):
    add(f"no_lease_is_reaped_{_name}_its_end", ("I3", "I5"), _reaped(_early, 0))
    add(f"a_lease_is_renewed_{_name}_its_end", ("I4",), _renewed(_early, True))
for _name, _early in (("at", 0), ("a_millisecond_after", -MILLISECOND)):
    add(f"a_lease_is_reaped_{_name}_its_end", ("I3",), _reaped(_early, 1))
    add(f"no_lease_is_renewed_{_name}_its_end", ("I4",), _renewed(_early, False))


@proves("I3")
async def a_renewed_lease_lasts_from_the_renewal(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(10 * SECOND)
    await pair.renew(lease, lease_us=SECOND)
    pair.passes(SECOND - 1)
    meets((await pair.maintain()).reaped, 0, "reaped a microsecond early")
    pair.passes(1)
    meets((await pair.maintain()).reaped, 1, "reaped at the end")


@proves("I4")
async def a_stale_fence_renews_nothing(pair: Pair) -> None:
    lease = await pair.start()
    stale = [Lease(lease.id, lease.fence + by) for by in (-1, 1)]
    meets(list((await pair.renew(*stale)).lost), stale, "lost")


@proves("I4")
async def what_is_not_there_renews_nothing(pair: Pair) -> None:
    nobody = Lease("nobody", 1)
    waiting = Lease(await pair.add(task="other"), 0)
    ended = await pair.start()
    await pair.ends(ended, Verb.SUCCEED)
    meets((await pair.renew(nobody, waiting, ended)).lost, (nobody, waiting, ended), "lost")


@proves("I4")
async def the_lost_are_named_among_the_renewed(pair: Pair) -> None:
    good, bad, better = await pair.start(), Lease("nobody", 3), await pair.start()
    meets((await pair.renew(good, bad, better)).lost, (bad,), "lost")


@proves("I4")
async def renews_nothing_at_all(pair: Pair) -> None:
    meets((await pair.renew()).lost, (), "lost of none")


@proves("I4")
async def the_fence_owns_a_lease_not_the_member(pair: Pair) -> None:
    lease = await pair.start()
    meets((await pair.renew(lease, member="another")).lost, (), "lost")


@proves("I4")
async def the_loser_of_a_lease_renews_nothing(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(LEASE_US)
    await pair.maintain()
    (taken,) = await pair.claim(member="other")
    meets((await pair.renew(lease)).lost, (lease,), "lost")
    meets((await pair.renew(Lease(taken.id, taken.fence), member="other")).lost, (), "the new owner's")


@proves("I4")
async def progress_rides_on_a_renewal(pair: Pair) -> None:
    lease = await pair.start()
    made = LeaseProgress(lease.id, lease.fence, Progress(1 / 3, None, "größer 🐍\x00\ud800"))
    stale = LeaseProgress(lease.id, lease.fence - 1, Progress(2.0))
    await pair.renew(lease, progress=(made, stale))
    await pair.apply(pair.exchange(0, progress=(LeaseProgress("nobody", 1, Progress(0.5)),)))


@proves("I23")
async def a_renewal_tells_of_the_cancels_asked_for(pair: Pair) -> None:
    lease = await pair.start()
    await pair.apply(CancelJobs((lease.id,), "first"))
    await pair.apply(CancelJobs((lease.id,), "second"))
    answer = await pair.renew(lease)
    meets([(each.id, each.reason) for each in answer.cancels], [(lease.id, "first")], "cancels")


@proves("I3", "I22")
async def a_lost_lease_gives_the_attempt_back(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(LEASE_US)
    await pair.maintain()
    (job,) = await pair.claim()
    meets((job.id, job.attempt, job.lost_count), (lease.id, 1, 1), "the next start")


@proves("I22")
async def the_last_loss_is_poison(pair: Pair) -> None:
    id = await pair.add(max_lost=3)
    for _ in range(3):
        await pair.claim()
        pair.passes(LEASE_US)
        await pair.maintain()
    (job,) = await pair.apply(Load((id,)))
    end = None if job is None else job.life.end
    meets(None if end is None else end.cause, "poison", "the cause")


@proves("I23")
async def a_lost_lease_with_a_cancel_is_cancelled(pair: Pair) -> None:
    lease = await pair.start()
    await pair.apply(CancelJobs((lease.id,), "why"))
    pair.passes(LEASE_US)
    await pair.maintain()
    meets(await pair.state(lease.id), State.CANCELLED, "the job")


@proves("I6")
async def a_lost_lease_of_what_runs_at_most_once_is_lost(pair: Pair) -> None:
    lease = await pair.start(at_most_once=True)
    pair.passes(LEASE_US)
    await pair.maintain()
    meets(await pair.state(lease.id), State.LOST, "the job")
    meets(await pair.claim(), (), "claimed again")


@proves("I3")
async def leases_are_reaped_in_batches(pair: Pair) -> None:
    await pair.enqueue(*[pair.new() for _ in range(5)])
    await pair.claim(5)
    pair.passes(LEASE_US)
    first, second, third = await pair.maintain(2), await pair.maintain(2), await pair.maintain(2)
    meets([each.reaped for each in (first, second, third)], [2, 2, 1], "reaped")
    meets([each.more for each in (first, second, third)], [True, True, False], "more")


@proves("I28")
async def a_jump_of_the_clock_gives_every_lease_anew(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(4 * LEASE_US)
    meets((await pair.maintain()).reaped, 0, "reaped after the jump")
    meets((await pair.renew(lease)).lost, (), "lost")


@proves("I28")
async def after_a_jump_the_silent_are_reaped_a_lease_later(pair: Pair) -> None:
    await pair.start()
    pair.passes(4 * LEASE_US)
    await pair.maintain()
    for early, wanted in ((1, 0), (0, 1)):
        pair.passes(LEASE_US - 1 if early else 1)
        meets((await pair.maintain()).reaped, wanted, "reaped")


@proves("I4")
async def an_owner_may_settle_late_while_nobody_else_has_it(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(2 * LEASE_US)
    meets(await pair.ends(lease, Verb.SUCCEED, result=b"late"), True, "accepted")


@proves("I4", "I5")
async def an_owner_may_not_settle_what_was_reaped(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(LEASE_US)
    await pair.maintain()
    meets(await pair.ends(lease, Verb.SUCCEED, result=b"late"), False, "accepted")


@proves("I4", "I8")
async def an_owner_may_not_settle_what_another_runs(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(LEASE_US)
    await pair.maintain()
    (taken,) = await pair.claim(member="other")
    meets(await pair.ends(lease, Verb.SUCCEED, result=b"old"), False, "the old owner's")
    meets(await pair.ends(Lease(taken.id, taken.fence), Verb.SUCCEED, result=b"new"), True, "the new owner's")
