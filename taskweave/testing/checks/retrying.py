"""Attempts and budgets: what a retry, a snooze and a release cost, and where they end."""

from __future__ import annotations

from taskweave.core.ids import SECOND
from taskweave.core.job import Attempt, End, Failure, Job, State, Verb
from taskweave.core.life import HISTORY_MAX, UNFIT_MAX
from taskweave.core.verbs import Lease, Load
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import Pair, meets


async def job_of(pair: Pair, id: str) -> Job:
    (job,) = await pair.apply(Load((id,)))
    assert job is not None
    return job


async def end_of(pair: Pair, id: str) -> End:
    end = (await job_of(pair, id)).life.end
    assert end is not None
    return end


@proves("I22")
async def a_retry_without_budget_is_the_end(pair: Pair) -> None:
    lease = await pair.start(max_attempts=1)
    await pair.ends(lease, Verb.RETRY, error=Failure("E", "last"))
    end = await end_of(pair, lease.id)
    meets((await pair.state(lease.id), end.cause), (State.FAILED, "exhausted"), "the last attempt")


@proves("I22")
async def as_many_attempts_as_the_budget_has(pair: Pair) -> None:
    id = await pair.add(max_attempts=3)
    attempts: list[int] = []
    while taken := await pair.claim():
        attempts.append(taken[0].attempt)
        await pair.ends(Lease(id, taken[0].fence), Verb.RETRY)
    meets((attempts, await pair.state(id)), ([1, 2, 3], State.FAILED), "the attempts")


@proves("I14")
async def a_retry_with_a_delay_waits_for_it(pair: Pair) -> None:
    lease = await pair.start(max_attempts=2)
    await pair.ends(lease, Verb.RETRY, delay_us=SECOND)
    meets(await pair.state(lease.id), State.SCHEDULED, "after the retry")
    pair.passes(SECOND - 1)
    meets(await pair.claim(), (), "a microsecond early")
    pair.passes(1)
    meets(len(await pair.claim()), 1, "at its instant")


@proves("I3")
async def a_retry_without_a_delay_is_ready(pair: Pair) -> None:
    lease = await pair.start(max_attempts=2)
    await pair.ends(lease, Verb.RETRY)
    meets(await pair.state(lease.id), State.READY, "after the retry")


@proves("I22")
async def a_snooze_gives_the_attempt_back(pair: Pair) -> None:
    lease = await pair.start()
    for _ in range(3):
        await pair.ends(lease, Verb.SNOOZE, delay_us=SECOND)
        pair.passes(SECOND)
        (job,) = await pair.claim()
        meets(job.attempt, 1, "the attempt after a snooze")
        lease = Lease(job.id, job.fence)


@proves("I22")
async def a_release_gives_the_attempt_back_and_keeps_its_turn(pair: Pair) -> None:
    lease = await pair.start()
    due = (await job_of(pair, lease.id)).life.run_at
    pair.passes(SECOND)
    await pair.ends(lease, Verb.RELEASE)
    after = await job_of(pair, lease.id)
    meets((after.life.run_at, after.life.attempt, after.state), (due, 0, State.READY), "after the release")


@proves("I14")
async def a_release_with_a_delay_waits_for_it(pair: Pair) -> None:
    lease = await pair.start()
    await pair.ends(lease, Verb.RELEASE, delay_us=SECOND, unfit=True, cause="unknown_task")
    meets(await pair.state(lease.id), State.SCHEDULED, "after the release")


@proves("I22")
async def what_no_worker_can_run_ends_after_ten_times(pair: Pair) -> None:
    lease = await pair.start()
    for _ in range(UNFIT_MAX - 1):
        await pair.ends(lease, Verb.RELEASE, unfit=True, cause="unknown_task")
        (job,) = await pair.claim()
        lease = Lease(job.id, job.fence)
    await pair.ends(lease, Verb.RELEASE, unfit=True, cause="unknown_task")
    meets((await end_of(pair, lease.id)).cause, "unknown_task", "after the tenth")


@proves("I6")
async def what_runs_at_most_once_never_starts_again(pair: Pair) -> None:
    ways = ((Verb.RETRY, State.FAILED), (Verb.SNOOZE, State.FAILED), (Verb.RELEASE, State.LOST))
    for verb, wanted in ways:
        lease = await pair.start(at_most_once=True)
        await pair.ends(lease, verb)
        meets(await pair.state(lease.id), wanted, f"after {verb}")
    unfit = await pair.start(at_most_once=True)
    await pair.ends(unfit, Verb.RELEASE, unfit=True, cause="bad_payload")
    meets(await pair.state(unfit.id), State.FAILED, "unfit")


@proves("I26")
async def the_history_keeps_the_last_attempts(pair: Pair) -> None:
    lease = await pair.start(max_attempts=50)
    for number in range(HISTORY_MAX + 3):
        pair.passes(1_000)
        error = Failure("E", f"number {number}", "trace", ("a", "b"))
        await pair.ends(lease, Verb.RETRY, error=error)
        (job,) = await pair.claim()
        lease = Lease(job.id, job.fence)
    history: tuple[Attempt, ...] = (await job_of(pair, lease.id)).life.history
    messages = [entry.error.message for entry in history if entry.error is not None]
    meets(messages, [f"number {number}" for number in range(3, HISTORY_MAX + 3)], "the history")


@proves("I26")
async def a_success_after_retries_keeps_their_history(pair: Pair) -> None:
    lease = await pair.start(max_attempts=2)
    await pair.ends(lease, Verb.RETRY, error=Failure("E", "first"))
    (job,) = await pair.claim()
    await pair.ends(Lease(job.id, job.fence), Verb.SUCCEED, result=b"2")
    meets(len((await job_of(pair, lease.id)).life.history), 1, "entries")
