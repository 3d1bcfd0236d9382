"""Children: they come into being in the commit of their parent's end, all of them, or with it none."""

from __future__ import annotations

from taskweave.core.bounds import BATCH_MAX
from taskweave.core.job import Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import Lease, Settlement
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import Pair, meets


async def _spawns(pair: Pair, lease: Lease, *spawn: Spec, verb: Verb = Verb.SUCCEED) -> bool:
    return await pair.ends(lease, verb, spawn=spawn)


@proves("I1", "I8")
async def children_come_with_their_parents_end(pair: Pair) -> None:
    lease = await pair.start()
    ready, later = pair.new(), pair.new(delay_us=5, queue="other")
    meets(await _spawns(pair, lease, ready, later), True, "accepted")
    meets([await pair.state(ready.id), await pair.state(later.id)], [State.READY, State.SCHEDULED], "the children")


@proves("I8", "I25")
async def a_bad_child_refuses_the_end_and_all_children(pair: Pair) -> None:
    lease = await pair.start()
    good = pair.new()
    for bad in (pair.new(task=""), pair.new(priority=1 << 20), good):
        meets(await _spawns(pair, lease, good, bad), False, "accepted")
    meets([await pair.state(lease.id), await pair.state(good.id)], [State.RUNNING, None], "parent and child")


@proves("I8", "I25")
async def a_bad_child_refuses_its_parent_alone(pair: Pair) -> None:
    first, second = await pair.start(), await pair.start()
    ends = (
        Settlement(first.id, first.fence, Verb.SUCCEED, spawn=(pair.new(version=0),)),
        Settlement(second.id, second.fence, Verb.SUCCEED, spawn=(child := pair.new(),)),
    )
    meets((await pair.settle(*ends)).refused, (first,), "refused")
    meets(await pair.state(child.id), State.READY, "the child of the other")


@proves("I2", "I8")
async def a_child_that_is_there_already_is_left_alone(pair: Pair) -> None:
    there = await pair.add(payload=b"first")
    lease = await pair.start(task="parent")
    meets(await _spawns(pair, lease, pair.new(id=there, payload=b"second"), fresh := pair.new()), True, "accepted")
    meets(await pair.state(fresh.id), State.READY, "the other child")


@proves("I8", "I13")
async def a_child_whose_key_is_taken_is_there_already(pair: Pair) -> None:
    await pair.add(unique=UniqueKey("k"), task="other")
    lease = await pair.start()
    for conflict in ("return", "replace", "raise"):
        child = pair.new(unique=UniqueKey("k", on_conflict=conflict))
        meets(await _spawns(pair, lease, child), True, f"accepted, {conflict}")
        meets(await pair.state(child.id), None, "the child")
        lease = await pair.start()


@proves("I8", "I13")
async def of_two_children_with_one_key_the_first_is_there(pair: Pair) -> None:
    lease = await pair.start()
    first, second = pair.new(unique=UniqueKey("k")), pair.new(unique=UniqueKey("k"))
    await _spawns(pair, lease, first, second)
    meets([await pair.state(first.id), await pair.state(second.id)], [State.READY, None], "the children")


@proves("I8", "I13")
async def a_child_may_take_the_key_that_its_parent_leaves(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k"))
    child = pair.new(unique=UniqueKey("k"))
    await _spawns(pair, lease, child)
    meets(await pair.state(child.id), State.READY, "the child")


@proves("I8")
async def an_end_sent_again_makes_no_second_children(pair: Pair) -> None:
    lease = await pair.start()
    child = pair.new()
    end = Settlement(lease.id, lease.fence, Verb.SUCCEED, spawn=(child,))
    await pair.settle(end)
    await pair.settle(end)
    meets(len((await pair.same_dump()).jobs), 2, "jobs")


@proves("I4", "I8")
async def a_stale_end_has_no_children(pair: Pair) -> None:
    lease = await pair.start()
    child = pair.new()
    meets(await _spawns(pair, Lease(lease.id, lease.fence + 1), child), False, "accepted")
    meets(await pair.state(child.id), None, "the child")


@proves("I8")
async def children_come_with_a_retry_too(pair: Pair) -> None:
    lease = await pair.start(max_attempts=2)
    await _spawns(pair, lease, child := pair.new(), verb=Verb.RETRY)
    meets(await pair.state(child.id), State.READY, "the child")


@proves("I3")
async def a_child_may_be_claimed_in_the_exchange_that_makes_it(pair: Pair) -> None:
    lease = await pair.start()
    child = pair.new()
    end = Settlement(lease.id, lease.fence, Verb.SUCCEED, spawn=(child,))
    answer = await pair.apply(pair.exchange(1, settle=(end,)))
    meets([job.id for job in answer.claimed], [child.id], "claimed")


@proves("I25")
async def too_many_children_refuse_the_end(pair: Pair) -> None:
    lease = await pair.start()
    children = tuple([pair.new() for _ in range(BATCH_MAX + 1)])
    meets(await _spawns(pair, lease, *children), False, "accepted")
