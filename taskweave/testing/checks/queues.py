"""Queues: paused, resumed, purged and pruned, each touching what it says and nothing else."""

from __future__ import annotations

from taskweave.core.ids import SECOND
from taskweave.core.job import State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import CancelJobs, Count, PauseQueue, Prune, PurgeQueue, ResumeQueue
from taskweave.testing.checks.operating import every_state
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import QUEUE, Pair, meets


@proves("I11")
async def a_pause_and_its_end_answer_whether_they_changed_anything(pair: Pair) -> None:
    answers = [await pair.apply(op) for op in (PauseQueue("q"), PauseQueue("q"), ResumeQueue("q"), ResumeQueue("q"))]
    meets(answers, [True, False, True, False], "pause twice, resume twice")


@proves("I11")
async def a_pause_stops_claims_and_nothing_else(pair: Pair) -> None:
    running = await pair.start(max_attempts=2)
    later = await pair.add(delay_us=1)
    await pair.apply(PauseQueue(QUEUE))
    waiting = await pair.add()
    pair.passes(1)
    await pair.maintain()
    meets(await pair.state(later), State.READY, "promoted in a paused queue")
    meets((await pair.renew(running)).lost, (), "renewed in a paused queue")
    meets(await pair.ends(running, Verb.SUCCEED), True, "settled in a paused queue")
    await pair.apply(CancelJobs((waiting,)))
    meets(await pair.claim(9), (), "claimed from a paused queue")
    await pair.apply(ResumeQueue(QUEUE))
    meets([job.id for job in await pair.claim(9)], [later], "claimed after it")


@proves("I11", "I26")
async def an_empty_queue_can_be_paused_and_is_shown(pair: Pair) -> None:
    await pair.apply(PauseQueue("empty"))
    (stat,) = (await pair.apply(Count())).queues
    meets((stat.queue, stat.paused, stat.counts, stat.oldest_ready_us), ("empty", True, (), None), "the queue")


@proves("I11")
async def a_pause_ends_with_no_job(pair: Pair) -> None:
    await pair.add()
    await pair.apply(PauseQueue(QUEUE))
    await pair.apply(PurgeQueue(QUEUE))
    await pair.add()
    meets(await pair.claim(9), (), "claimed")


@proves("I1")
async def purge_deletes_unstarted_jobs_only(pair: Pair) -> None:
    await every_state(pair)
    meets(await pair.apply(PurgeQueue(QUEUE)), 2, "purged")
    left = {job.state for job in (await pair.same_dump()).jobs}
    meets(left, set(State) - {State.READY, State.SCHEDULED}, "what is left")


@proves("I1")
async def purge_takes_the_earliest_due_first(pair: Pair) -> None:
    added = [await pair.add(delay_us=delay, priority=priority) for delay, priority in ((5, 0), (0, 1), (3, 9), (0, 0))]
    meets([await pair.apply(PurgeQueue(QUEUE, 2)), await pair.apply(PurgeQueue(QUEUE, 0))], [2, 0], "purged")
    meets([await pair.state(id) is not None for id in added], [True, False, True, False], "left")


@proves("I1")
async def purge_leaves_other_queues_alone(pair: Pair) -> None:
    await pair.add(queue="other")
    meets([await pair.apply(PurgeQueue(QUEUE)), await pair.apply(PurgeQueue("none"))], [0, 0], "purged")


@proves("I1", "I13")
async def purge_frees_unique_keys(pair: Pair) -> None:
    await pair.add(unique=UniqueKey("k"))
    await pair.add(unique=UniqueKey("w", None, SECOND))
    await pair.apply(PurgeQueue(QUEUE))
    meets((await pair.same_dump()).keys, (), "keys")


@proves("I1")
async def purge_takes_what_a_claim_met_expired(pair: Pair) -> None:
    await pair.add(expires_in_us=1)
    pair.passes(1)
    await pair.claim(9)
    meets(await pair.apply(PurgeQueue(QUEUE)), 1, "purged")


@proves("I1")
async def prune_takes_the_states_it_was_given(pair: Pair) -> None:
    await every_state(pair)
    meets(await pair.apply(Prune(0, (State.FAILED, State.LOST))), 2, "failed and lost")
    meets(await pair.apply(Prune(0)), 3, "succeeded, cancelled and expired")
    meets(await pair.apply(Prune(0, tuple(State))), 0, "what is not finished is never pruned")


@proves("I1")
async def prune_takes_what_ended_long_enough_ago(pair: Pair) -> None:
    await pair.ends(await pair.start(), Verb.SUCCEED)
    pair.passes(SECOND)
    meets(await pair.apply(Prune(SECOND + 1)), 0, "a microsecond too young")
    meets(await pair.apply(Prune(SECOND)), 1, "old enough")


@proves("I1")
async def prune_takes_the_earliest_ended_first(pair: Pair) -> None:
    leases = [await pair.start() for _ in range(3)]
    for lease in (leases[2], leases[0], leases[1]):
        pair.passes(1)
        await pair.ends(lease, Verb.SUCCEED)
    meets(await pair.apply(Prune(0, limit=1)), 1, "pruned")
    meets(await pair.state(leases[2].id), None, "the first that ended")
    meets(await pair.apply(Prune(0, limit=0)), 0, "limit 0")


@proves("I13")
async def prune_spares_a_unique_window_that_lasts(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k", None, SECOND))
    await pair.ends(lease, Verb.SUCCEED)
    pair.passes(SECOND - 1)
    meets(await pair.apply(Prune(0)), 0, "pruned inside the window")
    pair.passes(1)
    meets(await pair.apply(Prune(0)), 1, "pruned after it")
