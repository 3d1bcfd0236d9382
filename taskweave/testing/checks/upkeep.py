"""Maintenance: it does what is due, at the instant at which it is due, and twice is as good as once."""

from __future__ import annotations

from taskweave.core.ids import HOUR, SECOND
from taskweave.core.job import State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import Count, PauseQueue, UpdateJob
from taskweave.testing.checks.registry import Run, add, proves
from taskweave.testing.checks.retrying import end_of
from taskweave.testing.pair import QUEUE, Pair, meets


def _expires(early_us: int, wanted: int, delay_us: int) -> Run:
    async def run(pair: Pair) -> None:
        id = await pair.add(expires_in_us=SECOND, delay_us=delay_us)
        pair.passes(SECOND - early_us)
        meets((await pair.maintain()).expired, wanted, "expired")
        meets(await pair.state(id) is State.EXPIRED, bool(wanted), "its state is expired")

    return run


for _name, _delay in (("ready", 0), ("scheduled", HOUR)):
    add(f"a_{_name}_job_does_not_expire_a_millisecond_early", ("I3",), _expires(1_000, 0, _delay))
    add(f"a_{_name}_job_expires_at_its_instant", ("I3",), _expires(0, 1, _delay))
    add(f"a_{_name}_job_expires_after_its_instant", ("I3",), _expires(-1_000, 1, _delay))


@proves("I3")
async def a_claim_skips_what_has_expired(pair: Pair) -> None:
    expired, good = await pair.add(expires_in_us=SECOND, priority=9), await pair.add()
    pair.passes(SECOND)
    meets([job.id for job in await pair.claim(9)], [good], "claimed")
    meets(await pair.state(expired), State.READY, "only maintenance writes its end")


@proves("I3")
async def a_claim_takes_what_expires_in_a_microsecond(pair: Pair) -> None:
    await pair.add(expires_in_us=SECOND)
    pair.passes(SECOND - 1)
    meets(len(await pair.claim(9)), 1, "claimed")


@proves("I26")
async def what_was_set_aside_still_counts_as_ready(pair: Pair) -> None:
    await pair.enqueue(*[pair.new(expires_in_us=1) for _ in range(3)])
    pair.passes(1)
    await pair.claim(9)
    (stat,) = (await pair.apply(Count())).queues
    meets((stat.count(State.READY), stat.oldest_ready_us), (3, 1), "ready jobs")


@proves("I3")
async def what_was_set_aside_comes_back_when_the_clock_was_wrong(pair: Pair) -> None:
    id = await pair.add(expires_in_us=SECOND)
    pair.passes(SECOND)
    await pair.claim(9)
    pair.passes(-1)
    meets([job.id for job in await pair.claim(9)], [id], "claimed")


@proves("I3")
async def what_was_set_aside_expires_and_can_be_changed(pair: Pair) -> None:
    first, second = await pair.add(expires_in_us=SECOND), await pair.add(expires_in_us=SECOND)
    pair.passes(SECOND)
    await pair.claim(9)
    await pair.apply(UpdateJob(first, priority=1, delay_us=5))
    meets((await pair.maintain()).expired, 2, "expired")
    meets(await pair.state(second), State.EXPIRED, "the other one")


@proves("I3")
async def a_running_job_does_not_expire(pair: Pair) -> None:
    lease = await pair.start(expires_in_us=SECOND)
    pair.passes(2 * SECOND)
    meets((await pair.maintain()).expired, 0, "expired")
    meets(await pair.ends(lease, Verb.SUCCEED), True, "accepted")


@proves("I3")
async def a_retry_that_is_due_too_late_expires(pair: Pair) -> None:
    lease = await pair.start(expires_in_us=SECOND, max_attempts=3)
    await pair.ends(lease, Verb.RETRY, delay_us=HOUR)
    pair.passes(SECOND)
    await pair.maintain()
    meets(await pair.state(lease.id), State.EXPIRED, "the job")


@proves("I8")
async def a_result_is_dropped_at_its_instant(pair: Pair) -> None:
    lease = await pair.start(result_ttl_us=SECOND)
    await pair.ends(lease, Verb.SUCCEED, result=b"1")
    pair.passes(SECOND - 1)
    meets((await pair.maintain()).dropped, 0, "dropped a microsecond early")
    pair.passes(1)
    meets((await pair.maintain()).dropped, 1, "dropped")
    end = await end_of(pair, lease.id)
    meets((end.result, end.result_dropped), (None, "ttl"), "the result")


@proves("I8")
async def an_empty_result_is_dropped_and_none_is_not(pair: Pair) -> None:
    await pair.ends(await pair.start(result_ttl_us=0), Verb.SUCCEED, result=b"")
    await pair.ends(await pair.start(result_ttl_us=0), Verb.SUCCEED)
    meets((await pair.maintain()).dropped, 1, "dropped")


def _pruned(verb: Verb, retention: str) -> Run:
    async def run(pair: Pair) -> None:
        lease = await pair.start(
            result_ttl_us=0, **{"retention_us": HOUR, "retention_failed_us": HOUR, retention: SECOND}
        )
        await pair.ends(lease, verb)
        pair.passes(SECOND - 1)
        meets((await pair.maintain()).pruned, 0, "pruned a microsecond early")
        pair.passes(1)
        meets((await pair.maintain()).pruned, 1, "pruned")

    return run


add("a_succeeded_job_is_pruned_at_its_instant", ("I1",), _pruned(Verb.SUCCEED, "retention_us"))
add("a_cancelled_job_is_pruned_at_its_instant", ("I1",), _pruned(Verb.CANCEL, "retention_us"))
add("a_failed_job_is_pruned_at_its_instant", ("I1",), _pruned(Verb.FAIL, "retention_failed_us"))


@proves("I1", "I8")
async def a_job_is_kept_as_long_as_its_result(pair: Pair) -> None:
    lease = await pair.start(result_ttl_us=2 * SECOND, retention_us=SECOND)
    await pair.ends(lease, Verb.SUCCEED, result=b"1")
    pair.passes(SECOND)
    meets((await pair.maintain()).pruned, 0, "pruned with its result")
    pair.passes(SECOND)
    done = await pair.maintain()
    meets((done.dropped, done.pruned), (1, 1), "dropped and pruned")


@proves("I13")
async def a_job_is_kept_as_long_as_its_unique_window(pair: Pair) -> None:
    await pair.ends(await pair.start(retention_us=0, unique=UniqueKey("k", None, SECOND)), Verb.SUCCEED)
    meets((await pair.maintain()).pruned, 0, "pruned inside the window")
    pair.passes(SECOND)
    meets((await pair.maintain()).pruned, 1, "pruned at its end")


@proves("I5")
async def maintenance_twice_is_as_good_as_once(pair: Pair) -> None:
    await pair.add(delay_us=1)
    await pair.add(expires_in_us=1)
    await pair.ends(await pair.start(result_ttl_us=0, task="x"), Verb.SUCCEED, result=b"1")
    pair.passes(1)
    first, second = await pair.maintain(), await pair.maintain()
    done = [(each.promoted, each.expired, each.dropped) for each in (first, second)]
    meets(done, [(1, 1, 1), (0, 0, 0)], "what was done")


@proves("I3")
async def maintenance_promotes_in_every_queue(pair: Pair) -> None:
    for queue in ("a", "b", "c"):
        await pair.add(queue=queue, delay_us=1)
    await pair.apply(PauseQueue("b"))
    pair.passes(1)
    meets((await pair.maintain()).promoted, 3, "promoted")


@proves("I3")
async def maintenance_works_in_batches(pair: Pair) -> None:
    for number in range(3):
        await pair.add(delay_us=1 + number)
        await pair.add(expires_in_us=1 + number, queue="other", delay_us=HOUR)
        await pair.ends(await pair.start(result_ttl_us=number, task="x"), Verb.SUCCEED, result=b"1")
    pair.passes(5)
    first, second, third = await pair.maintain(2), await pair.maintain(2), await pair.maintain(2)
    meets([(each.promoted, each.expired, each.dropped) for each in (first, second)], [(2, 2, 2), (1, 1, 1)], "done")
    meets((first.more, second.more, third.more), (True, False, False), "more")


@proves("I14")
async def maintenance_says_when_the_next_job_is_due(pair: Pair) -> None:
    await pair.add(delay_us=3 * SECOND)
    await pair.add(delay_us=SECOND, queue="paused")
    await pair.apply(PauseQueue("paused"))
    meets((await pair.maintain()).next_due, pair.now + 3 * SECOND, "next_due")


@proves("I14", "I28")
async def store_time_never_runs_below_its_floor(pair: Pair) -> None:
    pair.passes(10 * SECOND)
    floor = (await pair.maintain()).now
    pair.passes(-5 * SECOND)
    id = await pair.add()
    meets((await pair.apply(pair.exchange(1))).now, floor, "the time of an exchange")
    meets((await pair.maintain()).now, floor, "the time of a maintenance")
    meets((await pair.apply(Count())).now, floor, "the time of a count")
    meets(await pair.state(id), State.RUNNING, "the job")
    pair.passes(5 * SECOND)


@proves("I28")
async def the_floor_moves_in_steps(pair: Pair) -> None:
    pair.passes(10 * SECOND)
    await pair.maintain()
    floor = (await pair.same_dump()).floor
    pair.passes(5 * SECOND - 1)
    await pair.maintain()
    meets((await pair.same_dump()).floor, floor, "within a step")
    pair.passes(1)
    await pair.maintain()
    meets((await pair.same_dump()).floor, floor + 5 * SECOND, "after a step")


@proves("I14")
async def only_maintenance_moves_the_floor(pair: Pair) -> None:
    floor = (await pair.same_dump()).floor
    pair.passes(20 * SECOND)
    await pair.start(queue=QUEUE)
    meets((await pair.same_dump()).floor, floor, "the floor")
