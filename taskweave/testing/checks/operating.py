"""What operators do to jobs: cancel, delete, retry and update, in every state that a job can be in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taskweave.core.ids import SECOND
from taskweave.core.job import State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import CancelJobs, Change, Changed, DeleteJobs, RetryJobs, UpdateJob
from taskweave.testing.checks.registry import Run, add, proves
from taskweave.testing.checks.retrying import end_of, job_of
from taskweave.testing.pair import LEASE_US, Pair, meets

D, ASKED, NO, GONE = Change.DONE, Change.REQUESTED, Change.REFUSED, Change.UNKNOWN

# what each verb answers in each state, and the state after it (None: as it was, or gone)
ANSWERS: Final[dict[str, dict[State | None, tuple[Change, State | None]]]] = {
    "cancel": {
        State.SCHEDULED: (D, State.CANCELLED),
        State.READY: (D, State.CANCELLED),
        State.RUNNING: (ASKED, None),
    },
    "delete": {state: (D, None) for state in State if state is not State.RUNNING},
    "retry": dict.fromkeys((State.FAILED, State.CANCELLED, State.EXPIRED, State.LOST), (D, State.READY)),
    "update": {State.SCHEDULED: (D, None), State.READY: (D, None)},
}


def _op(verb: str, id: str) -> Any:
    if verb == "update":
        return UpdateJob(id, priority=7)
    return {"cancel": CancelJobs, "delete": DeleteJobs, "retry": RetryJobs}[verb]((id,))


async def in_state(pair: Pair, state: State | None, **given: Any) -> str:
    """A job that has come to this state; None for one that is not there."""
    if state is None:
        return "nobody"
    if state is State.SCHEDULED:
        return await pair.add(delay_us=SECOND, **given)
    if state is State.READY:
        return await pair.add(**given)
    if state is State.CANCELLED:
        id = await pair.add(**given)
        await pair.apply(CancelJobs((id,), "before"))
        return id
    if state is State.EXPIRED:
        id = await pair.add(expires_in_us=1, **given)
        pair.passes(1)
        await pair.maintain()
        return id
    lease = await pair.start(at_most_once=state is State.LOST, **given)
    if state is State.LOST:
        pair.passes(LEASE_US)
        await pair.maintain()
    elif state is not State.RUNNING:
        await pair.ends(lease, {State.SUCCEEDED: Verb.SUCCEED, State.FAILED: Verb.FAIL}[state])
    return lease.id


async def every_state(pair: Pair, **given: Any) -> dict[State, str]:
    """One job in each state; what takes time comes first, and what would be claimed comes last."""
    waiting = (State.RUNNING, State.SCHEDULED, State.READY)
    ordered = [*(state for state in State if state not in waiting), *waiting]
    return {state: await in_state(pair, state, **given) for state in ordered}


def _of(verb: str, state: State | None) -> Run:
    change, after = ANSWERS[verb].get(state, (NO if state is not None else GONE, None))

    async def run(pair: Pair) -> None:
        id = await in_state(pair, state)
        meets(await pair.state(id), state, "the state before")
        answer = await pair.apply(_op(verb, id))
        answers: list[Changed] = [*answer] if isinstance(answer, tuple) else [answer]  # pyright: ignore[reportUnknownVariableType] - of two verbs
        (one,) = answers
        meets(one.change, change, f"{verb} of a job that is {state or 'not there'}")
        left = None if verb == "delete" and change is D else after or state
        meets(await pair.state(id), left, "the state after")

    return run


for _verb in ANSWERS:
    for _state in (*State, None):
        add(f"{_verb}_of_a_job_that_is_{_state or 'not_there'}", ("I5",), _of(_verb, _state))


def _batch(verb: Callable[[tuple[str, ...]], Any]) -> Run:
    async def run(pair: Pair) -> None:
        many = [await in_state(pair, state) for state in (State.READY, None, State.FAILED, State.RUNNING)]
        answers = await pair.apply(verb((*many, many[0], "no one else")))
        meets([each.id for each in answers], [*many, many[0], "no one else"], "one answer for each id, in order")
        meets(await pair.apply(verb(())), (), "the answer to no ids")

    return run


for _verb, _class in (("cancel", CancelJobs), ("delete", DeleteJobs), ("retry", RetryJobs)):
    add(f"{_verb}_of_many_jobs_answers_for_each", ("I5",), _batch(_class))


@proves("I23")
async def the_first_reason_of_a_cancel_stays(pair: Pair) -> None:
    lease = await pair.start()
    await pair.apply(CancelJobs((lease.id,), "first"))
    await pair.apply(CancelJobs((lease.id,), "second"))
    hold = (await job_of(pair, lease.id)).life.hold
    meets(hold and hold.cancel, "first", "the reason")


@proves("I23")
async def an_empty_reason_is_a_reason(pair: Pair) -> None:
    waiting, lease = await pair.add(task="other"), await pair.start()
    await pair.apply(CancelJobs((waiting, lease.id), ""))
    meets((await end_of(pair, waiting)).reason, "", "the reason")
    answer = await pair.renew(lease)
    meets([each.reason for each in answer.cancels], [""], "the reason that the worker is told")


@proves("I23")
async def a_cancelled_job_is_never_claimed(pair: Pair) -> None:
    id, later = await pair.add(), await pair.add(delay_us=1)
    await pair.apply(CancelJobs((id, later)))
    pair.passes(SECOND)
    await pair.maintain()
    meets(await pair.claim(9), (), "claimed")


@proves("I5")
async def an_operators_retry_starts_afresh(pair: Pair) -> None:
    lease = await pair.start(max_attempts=1, expires_in_us=LEASE_US)
    await pair.ends(lease, Verb.FAIL)
    pair.passes(2 * LEASE_US)
    await pair.apply(RetryJobs((lease.id,), "me 🐍"))
    (job,) = await pair.claim()
    meets((job.attempt, job.fence, job.age_us), (1, lease.fence + 2, 0), "the start after it")


@proves("I5", "I13")
async def an_operators_retry_is_refused_where_its_key_is_taken(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k"))
    await pair.ends(lease, Verb.FAIL)
    holder = await pair.add(unique=UniqueKey("k"))
    (answer,) = await pair.apply(RetryJobs((lease.id,)))
    meets((answer.change, answer.holder), (Change.KEY_TAKEN, holder), "the answer")


@proves("I5", "I13")
async def an_operators_retry_takes_its_key_again(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k"))
    await pair.ends(lease, Verb.FAIL)
    await pair.apply(RetryJobs((lease.id,)))
    meets((await pair.same_dump()).keys, (("k", lease.id),), "the keys")


@proves("I11")
async def an_update_changes_the_order(pair: Pair) -> None:
    first, second = await pair.add(), await pair.add()
    await pair.apply(UpdateJob(second, priority=1))
    meets([job.id for job in await pair.claim(9)], [second, first], "after the update")


@proves("I14")
async def an_update_moves_the_due_time(pair: Pair) -> None:
    now, later = await pair.add(delay_us=SECOND), await pair.add()
    await pair.apply(UpdateJob(now, delay_us=0))
    await pair.apply(UpdateJob(later, -1, SECOND))
    meets([job.id for job in await pair.claim(9)], [now], "after the updates")
    pair.passes(SECOND)
    meets([job.id for job in await pair.claim(9)], [later], "a second later")


@proves("I5")
async def an_update_of_nothing_changes_nothing(pair: Pair) -> None:
    id = await pair.add(priority=3, delay_us=SECOND)
    before = await job_of(pair, id)
    meets((await pair.apply(UpdateJob(id))).change, D, "the answer")
    meets(await job_of(pair, id), before, "the job")


@proves("I1", "I26")
async def a_deleted_job_leaves_nothing_behind(pair: Pair) -> None:
    kinds: list[dict[str, Any]] = [{}, {"delay_us": 5}, {"expires_in_us": SECOND}, {"unique": UniqueKey("k")}]
    ids = [await pair.add(tags=(("t", "1"),), **kind) for kind in kinds]
    await pair.apply(DeleteJobs(tuple(ids)))
    pair.passes(2 * SECOND)
    await pair.maintain()
    dump = await pair.same_dump()
    meets((dump.jobs, dump.keys), ((), ()), "what is left")
    meets(await pair.claim(9), (), "claimed")
