"""Fences and claim ids: each claim its own fence, each request its own token."""

from __future__ import annotations

from taskweave.core.ids import SECOND
from taskweave.core.job import Verb
from taskweave.core.verbs import Exchange, Lease
from taskweave.testing.checks.claiming import ids
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import LEASE_US, Pair, meets


@proves("I4")
async def each_claim_is_a_new_fence(pair: Pair) -> None:
    lease = await pair.start(max_attempts=9)
    seen = [lease.fence]
    for _ in range(3):
        await pair.ends(Lease(lease.id, seen[-1]), Verb.RETRY)
        seen.append((await pair.claim())[0].fence)
    meets(seen, [1, 3, 5, 7], "the fences of four claims")


@proves("I4")
async def an_end_keeps_the_fence(pair: Pair) -> None:
    lease = await pair.start()
    await pair.ends(lease, Verb.SUCCEED)
    meets(await pair.fence(lease.id), lease.fence, "after success")


@proves("I4")
async def each_way_back_is_a_new_fence(pair: Pair) -> None:
    for verb in (Verb.RETRY, Verb.SNOOZE, Verb.RELEASE):
        lease = await pair.start(max_attempts=9)
        await pair.ends(lease, verb, delay_us=SECOND)
        meets(await pair.fence(lease.id), lease.fence + 1, f"after {verb}")


@proves("I4")
async def a_lost_lease_is_a_new_fence(pair: Pair) -> None:
    lease = await pair.start()
    pair.passes(LEASE_US)
    await pair.maintain()
    meets(await pair.fence(lease.id), lease.fence + 1, "after the reaping")


@proves("I3", "I4")
async def a_repeated_claim_hands_out_the_same_jobs(pair: Pair) -> None:
    added = [await pair.add() for _ in range(3)]
    op = pair.exchange(2)
    meets(ids((await pair.apply(op)).claimed), added[:2], "the claim")
    pair.passes(SECOND)
    meets(sorted(ids((await pair.apply(op)).claimed)), added[:2], "the same claim again")


@proves("I3", "I4")
async def a_repeated_claim_does_not_extend_its_leases(pair: Pair) -> None:
    lease = await _one(pair, op := pair.exchange(1))
    pair.passes(LEASE_US - 1)
    await pair.apply(op)
    pair.passes(1)
    meets((await pair.maintain()).reaped, 1, "reaped")
    meets(await pair.fence(lease.id), lease.fence + 1, "the fence")


@proves("I3", "I4")
async def a_repeated_claim_wants_nothing_new(pair: Pair) -> None:
    await _one(pair, op := pair.exchange(1))
    await pair.add()
    bigger = Exchange(op.member, op.claim_id, 9, op.queues, op.tasks, op.lease_us)
    meets(len((await pair.apply(bigger)).claimed), 1, "claimed by the repeat")


@proves("I3", "I4")
async def a_repeated_claim_hands_out_what_still_runs(pair: Pair) -> None:
    added = [await pair.add() for _ in range(3)]
    op = pair.exchange(3)
    taken = (await pair.apply(op)).claimed
    await pair.ends(Lease(taken[1].id, taken[1].fence), Verb.SUCCEED)
    meets(sorted(ids((await pair.apply(op)).claimed)), [added[0], added[2]], "what still runs")


@proves("I3", "I4")
async def a_claim_id_that_has_ended_claims_anew(pair: Pair) -> None:
    lease = await _one(pair, op := pair.exchange(1))
    await pair.ends(lease, Verb.SUCCEED)
    fresh = await pair.add()
    meets(ids((await pair.apply(op)).claimed), [fresh], "the claim, ended and sent again")


@proves("I3", "I4")
async def a_claim_id_whose_lease_was_lost_claims_anew(pair: Pair) -> None:
    lease = await _one(pair, op := pair.exchange(1))
    pair.passes(LEASE_US)
    await pair.maintain()
    (again,) = (await pair.apply(op)).claimed
    meets((again.id, again.fence), (lease.id, lease.fence + 2), "the claim, lost and sent again")


@proves("I3", "I4")
async def a_repeated_claim_looks_at_neither_queues_nor_pause(pair: Pair) -> None:
    lease = await _one(pair, op := pair.exchange(1))
    elsewhere = Exchange("another member", op.claim_id, 0, ("other",), (), 1)
    meets(ids((await pair.apply(elsewhere)).claimed), [lease.id], "by its claim_id alone")


@proves("I4")
async def two_claims_never_share_a_job(pair: Pair) -> None:
    await pair.enqueue(*[pair.new() for _ in range(6)])
    first, second = await pair.claim(4), await pair.claim(4, member="other")
    meets((len(first), len(second), len({*ids(first), *ids(second)})), (4, 2, 6), "two claims of six jobs")


@proves("I4")
async def attempts_are_counted_at_the_claim(pair: Pair) -> None:
    lease = await pair.start(max_attempts=5)
    await pair.ends(lease, Verb.RETRY)
    (again,) = await pair.claim()
    meets((again.attempt, again.lost_count), (2, 0), "the second start")


async def _one(pair: Pair, op: Exchange) -> Lease:
    await pair.add()
    (job,) = (await pair.apply(op)).claimed
    return Lease(job.id, job.fence)
