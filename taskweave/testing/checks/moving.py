"""Export and restore: whole jobs, oldest first, and in another store the same jobs as they were, never a lease."""

from __future__ import annotations

from attrs import evolve

from taskweave.core.ids import MINUTE, SECOND
from taskweave.core.job import Failure, Job, Spec, State, Verb
from taskweave.core.moving import PAGE_MAX
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Change,
    DeleteJobs,
    Export,
    Exported,
    PauseQueue,
    Restore,
    RetryJobs,
    Settlement,
)
from taskweave.exceptions import DuplicateId, InvalidValue, PayloadTooLarge
from taskweave.testing.checks.operating import every_state
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import Pair, meets


async def _jobs(pair: Pair) -> tuple[Job, ...]:
    return (await pair.apply(Export())).jobs


async def _emptied(pair: Pair) -> tuple[Job, ...]:
    """All jobs, and then none is left: what comes back comes back from their export alone."""
    jobs = await _jobs(pair)
    await pair.clear()
    return jobs


def _renamed(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    return tuple([evolve(job, spec=evolve(job.spec, id=f"{job.id}-again")) for job in jobs])


async def _changes(pair: Pair, jobs: tuple[Job, ...]) -> list[Change]:
    return [answer.change for answer in await pair.apply(Restore(jobs))]


@proves("I26")
async def exports_every_job_oldest_first(pair: Pair) -> None:
    added = [await pair.add(priority=number) for number in (3, 1, 2)]
    answer = await pair.apply(Export())
    meets([job.id for job in answer.jobs], added, "exported")
    meets(answer.next, None, "the end")


@proves("I26")
async def exports_pages_that_go_on_where_the_last_one_ended(pair: Pair) -> None:
    added = [await pair.add() for _ in range(7)]
    seen: list[str] = []
    for limit in (0, 1, 2, 500):
        page: Exported = await pair.store.apply(Export(0, limit), at=pair.now)
        while True:
            seen += [job.id for job in page.jobs]
            if page.next is None:
                break
            page = await pair.store.apply(Export(page.next, limit), at=pair.now)
        meets(seen, added, f"in pages of {limit}")
        seen.clear()


@proves("I26")
async def exports_no_more_than_a_page_holds(pair: Pair) -> None:
    await pair.enqueue(*[pair.new() for _ in range(PAGE_MAX + 1)])
    answer = await pair.apply(Export(0, 10_000))
    meets(len(answer.jobs), PAGE_MAX, "in one page")
    meets(answer.next is None, False, "the end")


@proves("I26")
async def ends_a_page_before_it_grows_too_large(pair: Pair) -> None:
    """Eight mebibytes of payloads and results: a page of large jobs fits the memory of both sides."""
    large = b"x" * (1 << 20)
    for _ in range(9):
        await pair.add(payload=large)
    answer = await pair.apply(Export())
    meets(len(answer.jobs), 8, "of a mebibyte each")


@proves("I26")
async def exports_an_empty_store_with_its_pauses(pair: Pair) -> None:
    for queue in ("z", "a"):
        await pair.apply(PauseQueue(queue))
    answer = await pair.apply(Export())
    meets((answer.jobs, answer.next, answer.paused), ((), None, ("a", "z")), "exported")


@proves("I26")
async def restores_every_state_as_it_was(pair: Pair) -> None:
    ids = await every_state(pair)
    jobs = await _emptied(pair)
    meets(await _changes(pair, jobs), [Change.DONE] * len(jobs), "restored")
    states = {id: state for state, id in ids.items()}
    states[ids[State.RUNNING]] = State.READY
    meets({job.id: job.state for job in await _jobs(pair)}, states, "states")


@proves("I26")
async def restores_all_that_was_asked_for(pair: Pair) -> None:
    spec = Spec(
        *("whole", "a task", "a queue", b"\xff\x00", "raw", 3, -5, 0, 90 * SECOND, MINUTE, SECOND, 4, 5),
        unique=UniqueKey("k", "started", None, "replace"),
        result_ttl_us=1,
        retention_us=2 * SECOND,
        retention_failed_us=3 * SECOND,
        tags=(("a", "é"), ("b", "2")),
        trace="00-abc-01",
    )
    await pair.enqueue(spec)
    jobs = await _emptied(pair)
    await pair.apply(Restore(jobs))
    meets([job.spec for job in await _jobs(pair)], [spec], "restored")


@proves("I26", "I5")
async def restores_all_that_was_lived_through(pair: Pair) -> None:
    """Attempts, history, errors of any text, the token of settlement, a result that will be dropped at its time."""
    failure = Failure("E", "bad \ud800\x00 text", "trace", ("E",))
    lease = await pair.start(max_attempts=5)
    await pair.ends(lease, Verb.RETRY, error=failure, reason="why")
    (again,) = await pair.claim()
    await pair.settle(settlement := _success(again.id, again.fence))
    good = await pair.start(result_ttl_us=SECOND)
    await pair.ends(good, Verb.SUCCEED, result=b"1")
    bad = await pair.start()
    await pair.ends(bad, Verb.FAIL, error=failure, cause="abort", reason="")
    await pair.apply(RetryJobs((bad.id,)))
    jobs = await _emptied(pair)
    await pair.apply(Restore(jobs))
    meets((await pair.settle(settlement)).refused, (), "the same settlement again")
    pair.passes(SECOND)
    await pair.maintain()


def _success(id: str, fence: int) -> Settlement:
    return Settlement(id, fence, Verb.SUCCEED, b'{"a": 1}')


@proves("I4", "I6", "I22")
async def restores_running_jobs_as_given_back(pair: Pair) -> None:
    """Their old workers are refused, no loss is counted; what may start once is lost, what should stop is cancelled."""
    plain, once = await pair.start(max_attempts=2), await pair.start(at_most_once=True)
    asked = await pair.start()
    await pair.apply(CancelJobs((asked.id,), "enough"))
    jobs = await _emptied(pair)
    await pair.apply(Restore(jobs))
    there = {job.id: job for job in await _jobs(pair)}
    states = [there[lease.id].state for lease in (plain, once, asked)]
    meets(states, [State.READY, State.LOST, State.CANCELLED], "states")
    life = there[plain.id].life
    meets((life.attempt, life.fence, life.lost_count), (0, plain.fence + 1, 0), "attempt, fence and losses")
    meets(await pair.ends(plain, Verb.SUCCEED, result=b"1"), False, "settled by the old worker")
    meets((await pair.renew(plain)).lost, (plain,), "renewed by the old worker")
    meets([job.id for job in await pair.claim()], [plain.id], "claimed")


@proves("I11")
async def restores_the_order(pair: Pair) -> None:
    """Claims follow priority, due time and the order given, as they did."""
    for priority in (0, 5, -5, 5, 0):
        await pair.add(priority=priority)
    jobs = await _emptied(pair)
    await pair.apply(Restore(jobs))
    await pair.add(priority=5)
    meets(len(await pair.claim(10)), 6, "claimed")


@proves("I2")
async def restores_twice_what_is_once(pair: Pair) -> None:
    await every_state(pair)
    jobs = await _jobs(pair)
    meets(await _changes(pair, jobs), [Change.EXISTING] * len(jobs), "restored")
    gone = jobs[0]
    await pair.apply(DeleteJobs((gone.id,)))
    meets((await _changes(pair, jobs))[:2], [Change.DONE, Change.EXISTING], "restored after one was deleted")


@proves("I13")
async def restores_no_job_beside_the_holder_of_its_key(pair: Pair) -> None:
    await pair.add(unique=UniqueKey("k"))
    jobs = await _jobs(pair)
    twins = _renamed(jobs)
    answers = await pair.apply(Restore(twins))
    meets([(each.change, each.holder) for each in answers], [(Change.KEY_TAKEN, jobs[0].id)], "a twin")
    await pair.apply(DeleteJobs((jobs[0].id,)))
    meets(await _changes(pair, (*twins, *_renamed(twins))), [Change.DONE, Change.KEY_TAKEN], "two twins at once")
    (holder,) = await pair.enqueue(pair.new(unique=UniqueKey("k")))
    meets(holder.id, twins[0].id, "the holder")


@proves("I13")
async def restores_keys_only_where_they_are_in_scope(pair: Pair) -> None:
    """Finished, started and lapsed ones are free for others; a window that is open is held."""
    done = await pair.start(unique=UniqueKey("a"))
    await pair.ends(done, Verb.SUCCEED, result=b"1")
    started = await pair.start(unique=UniqueKey("b", "started"))
    await pair.ends(started, Verb.SNOOZE, delay_us=SECOND)
    await pair.add(unique=UniqueKey("c", None, SECOND))
    await pair.add(unique=UniqueKey("d", None, 10 * MINUTE))
    jobs = await _emptied(pair)
    meets(await _changes(pair, jobs), [Change.DONE] * 4, "restored")
    for key, new in (("a", True), ("b", True), ("c", True), ("d", False)):
        (answer,) = await pair.enqueue(pair.new(unique=UniqueKey(key)))
        meets(answer.deduplicated, not new, f"an enqueue with key {key}")


@proves("I3")
async def restores_what_is_late_and_what_has_expired(pair: Pair) -> None:
    """Time went on: what is due is promoted by the next exchange, what has expired is expired by maintenance."""
    await pair.add(delay_us=SECOND)
    await pair.add(expires_in_us=SECOND)
    jobs = await _emptied(pair)
    await pair.apply(Restore(jobs))
    meets([job.id for job in await pair.claim(5)], [jobs[0].id], "claimed")
    await pair.maintain()
    meets(await pair.state(jobs[1].id), State.EXPIRED, "the other")


@proves("I26")
async def restores_all_or_nothing(pair: Pair) -> None:
    await pair.add()
    (job,) = await _emptied(pair)
    other = _renamed((job,))[0]
    for bad, error in (
        (evolve(other, life=evolve(other.life, attempt=99)), InvalidValue),
        (evolve(other, life=evolve(other.life, state=State.SUCCEEDED)), InvalidValue),
        (evolve(other, spec=evolve(other.spec, payload=b"x" * (2 << 20))), PayloadTooLarge),
        (job, DuplicateId),
    ):
        await pair.refuses(Restore((job, bad)), error)
    await pair.refuses(Restore((job,) * (PAGE_MAX + 1)), InvalidValue)
    meets(await _jobs(pair), (), "stored")
    meets(await pair.apply(Restore(())), (), "nothing restored")


@proves("I26")
async def restores_a_whole_page(pair: Pair) -> None:
    await pair.enqueue(*[pair.new(tags=(("n", str(number)),)) for number in range(PAGE_MAX)])
    jobs = await _emptied(pair)
    meets(await _changes(pair, jobs), [Change.DONE] * PAGE_MAX, "restored")
