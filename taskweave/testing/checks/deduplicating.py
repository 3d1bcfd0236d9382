"""Unique keys: one holder at a time in each of three scopes, three answers to a conflict, free at the right instant."""

from __future__ import annotations

from typing import Any, Final

from taskweave.core.ids import SECOND
from taskweave.core.job import State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import CancelJobs, DeleteJobs, Enqueue, How, Load
from taskweave.exceptions import UniqueConflict
from taskweave.testing.checks.operating import in_state
from taskweave.testing.checks.registry import Run, add, proves
from taskweave.testing.pair import LEASE_US, Pair, meets

SCOPES: Final[dict[str, dict[str, Any]]] = {
    "until_finished": {"until": "finished"},
    "until_started": {"until": "started"},
    "within_a_window": {"until": None, "within_us": SECOND},
}


def _conflict(scope: dict[str, Any], on_conflict: Any) -> Run:
    async def run(pair: Pair) -> None:
        holder = await pair.add(unique=UniqueKey("k", **scope), payload=b"first", delay_us=5)
        second = pair.new(
            unique=UniqueKey("k", on_conflict=on_conflict, **scope), payload=b"second", queue="other", priority=3
        )
        if on_conflict == "raise":
            await pair.refuses(Enqueue((second,)), UniqueConflict)
            return
        (answer,) = await pair.enqueue(second)
        wanted = How.REPLACED if on_conflict == "replace" else How.EXISTING
        meets((answer.id, answer.how), (holder, wanted), "the answer")
        (job,) = await pair.apply(Load((holder,)))
        meets(job and job.spec.payload, b"second" if wanted is How.REPLACED else b"first", "the payload")

    return run


for _name, _scope in SCOPES.items():
    for _answer in ("return", "replace", "raise"):
        add(f"a_key_{_name}_is_taken_and_the_second_{_answer}s", ("I13",), _conflict(_scope, _answer))


async def _held(pair: Pair, id: str) -> bool:
    return ("k", id) in (await pair.same_dump()).keys


def _leaves(scope: dict[str, Any], state: State, free: bool) -> Run:
    async def run(pair: Pair) -> None:
        id = await in_state(pair, state, unique=UniqueKey("k", **scope))
        meets(await _held(pair, id), not free, f"held by a job that is {state}")
        (answer,) = await pair.enqueue(pair.new(unique=UniqueKey("k", **scope)))
        meets(answer.how, How.CREATED if free else How.EXISTING, "the next enqueue")

    return run


_LIVE: Final = (State.SCHEDULED, State.READY, State.RUNNING)
for _state in State:
    add(f"a_key_until_finished_when_{_state}", ("I13",), _leaves(SCOPES["until_finished"], _state, _state not in _LIVE))
for _state in (State.SCHEDULED, State.READY, State.RUNNING, State.CANCELLED):
    _freed = _state not in (State.SCHEDULED, State.READY)
    add(f"a_key_until_started_when_{_state}", ("I13",), _leaves(SCOPES["until_started"], _state, _freed))
for _state in (State.RUNNING, State.SUCCEEDED, State.CANCELLED):
    add(f"a_key_within_a_window_when_{_state}", ("I13",), _leaves(SCOPES["within_a_window"], _state, False))


@proves("I13")
async def a_retry_keeps_a_key_until_finished(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k"), max_attempts=2)
    await pair.ends(lease, Verb.RETRY, delay_us=SECOND)
    meets(await _held(pair, lease.id), True, "held while it waits for its retry")


@proves("I13")
async def a_lost_lease_keeps_a_key_until_finished(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k"))
    pair.passes(LEASE_US)
    await pair.maintain()
    meets(await _held(pair, lease.id), True, "held after the reaping")


@proves("I13")
async def a_retry_never_retakes_a_key_until_started(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k", "started"), max_attempts=2)
    await pair.ends(lease, Verb.RETRY)
    (answer,) = await pair.enqueue(pair.new(unique=UniqueKey("k", "started")))
    meets(answer.how, How.CREATED, "beside a job that was started")


@proves("I13")
async def a_window_ends_at_its_instant(pair: Pair) -> None:
    first = await pair.add(unique=UniqueKey("k", None, SECOND))
    pair.passes(SECOND - 1)
    (early,) = await pair.enqueue(pair.new(unique=UniqueKey("k", None, SECOND)))
    pair.passes(1)
    meets(await _held(pair, first), False, "held at its end")
    (late,) = await pair.enqueue(pair.new(unique=UniqueKey("k", None, SECOND)))
    meets((early.how, late.how), (How.EXISTING, How.CREATED), "before and at the end of the window")


@proves("I13")
async def a_window_that_was_taken_over_stays_with_the_taker(pair: Pair) -> None:
    first = await pair.start(unique=UniqueKey("k", None, SECOND))
    pair.passes(SECOND)
    second = await pair.add(unique=UniqueKey("k", None, SECOND))
    await pair.ends(first, Verb.SUCCEED)
    await pair.apply(DeleteJobs((first.id,)))
    meets((await pair.same_dump()).keys, (("k", second),), "the keys")


@proves("I13")
async def a_replacement_does_not_move_the_window(pair: Pair) -> None:
    first = await pair.add(unique=UniqueKey("k", None, SECOND))
    pair.passes(SECOND - 1)
    await pair.enqueue(pair.new(unique=UniqueKey("k", None, SECOND, "replace")))
    pair.passes(1)
    meets(await _held(pair, first), False, "held")


@proves("I13")
async def a_key_knows_no_queue_and_no_task(pair: Pair) -> None:
    holder = await pair.add(unique=UniqueKey("k"), queue="a", task="x")
    (answer,) = await pair.enqueue(pair.new(unique=UniqueKey("k"), queue="b", task="y"))
    meets(answer.id, holder, "the holder")


@proves("I13")
async def scopes_of_one_key_meet_each_other(pair: Pair) -> None:
    holder = await pair.add(unique=UniqueKey("k", "started"))
    for scope in SCOPES.values():
        (answer,) = await pair.enqueue(pair.new(unique=UniqueKey("k", **scope)))
        meets(answer.id, holder, "the holder")


@proves("I13")
async def of_two_equal_keys_in_a_batch_the_first_has_it(pair: Pair) -> None:
    first = pair.new(unique=UniqueKey("k"))
    answers = await pair.enqueue(first, pair.new(unique=UniqueKey("k")), pair.new(unique=UniqueKey("l")))
    meets([(each.id, each.how) for each in answers[:2]], [(first.id, How.CREATED), (first.id, How.EXISTING)], "both")


@proves("I13")
async def of_two_replacements_in_a_batch_the_first_is_done(pair: Pair) -> None:
    await pair.add(unique=UniqueKey("k"), payload=b"0")
    batch = [pair.new(unique=UniqueKey("k", on_conflict="replace"), payload=b"%d" % number) for number in (1, 2)]
    meets([each.how for each in await pair.enqueue(*batch)], [How.REPLACED, How.EXISTING], "two replacements")


@proves("I13")
async def a_replacement_keeps_id_and_place(pair: Pair) -> None:
    first = await pair.add(unique=UniqueKey("k"), tags=(("old", "1"),))
    second = await pair.add()
    await pair.enqueue(pair.new(unique=UniqueKey("k", on_conflict="replace"), tags=(("new", "2"),), max_attempts=7))
    meets([job.id for job in await pair.claim(9)], [first, second], "the order")


@proves("I13")
async def a_replacement_takes_task_queue_and_due_time(pair: Pair) -> None:
    first = await pair.add(unique=UniqueKey("k"), expires_in_us=5)
    other = pair.new(unique=UniqueKey("k", on_conflict="replace"), queue="b", task="y", delay_us=SECOND, priority=4)
    await pair.enqueue(other)
    meets(await pair.claim(9), (), "claimed from the old queue")
    pair.passes(SECOND)
    meets([job.id for job in await pair.claim(9, queues=("b",), tasks=("y",))], [first], "from the new one")


@proves("I13")
async def what_was_started_is_never_replaced(pair: Pair) -> None:
    lease = await pair.start(unique=UniqueKey("k"), max_attempts=3, payload=b"first")
    again = pair.new(unique=UniqueKey("k", on_conflict="replace"), payload=b"second")
    (running,) = await pair.enqueue(again)
    await pair.ends(lease, Verb.RETRY, delay_us=SECOND)
    (waiting,) = await pair.enqueue(again)
    meets((running.how, waiting.how), (How.EXISTING, How.EXISTING), "while it runs, and while it waits")


@proves("I13")
async def a_key_is_free_for_the_enqueue_after_a_cancel(pair: Pair) -> None:
    for number in range(5):
        (answer,) = await pair.enqueue(pair.new(unique=UniqueKey("k")))
        meets(answer.how, How.CREATED, f"round {number}")
        await pair.apply(CancelJobs((answer.id,)))


@proves("I13")
async def a_long_key_is_one_key(pair: Pair) -> None:
    long = "🐍" * 500
    await pair.add(unique=UniqueKey(long))
    (same,) = await pair.enqueue(pair.new(unique=UniqueKey(long)))
    (other,) = await pair.enqueue(pair.new(unique=UniqueKey(long[:-1] + "x")))
    meets((same.how, other.how), (How.EXISTING, How.CREATED), "the same key, and one that differs at its end")


@proves("I2", "I13")
async def a_known_id_beats_its_key(pair: Pair) -> None:
    first, second = await pair.add(unique=UniqueKey("k")), await pair.add(unique=UniqueKey("l"))
    (answer,) = await pair.enqueue(pair.new(id=second, unique=UniqueKey("k", on_conflict="raise")))
    meets((answer.id, answer.how, first != second), (second, How.EXISTING, True), "the answer")
