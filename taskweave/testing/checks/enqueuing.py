"""Enqueue: all or nothing, once for each id, and what comes back is what went in."""

from __future__ import annotations

from typing import Final

from taskweave.core.bounds import (
    ATTEMPTS_MAX,
    BATCH_MAX,
    INSTANT_MAX,
    PAYLOAD_BYTES_MAX,
    PRIORITY_MAX,
    PRIORITY_MIN,
    TAGS_MAX,
    VERSION_MAX,
)
from taskweave.core.ids import DAY, SECOND, SPAN_MAX_US
from taskweave.core.job import State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import DeleteJobs, Enqueue, How, Load
from taskweave.exceptions import DuplicateId, InvalidName, InvalidValue, PayloadTooLarge, UniqueConflict
from taskweave.testing.checks.registry import proves
from taskweave.testing.pair import Pair, meets

EVERY_BYTE: Final = bytes(range(256))


@proves("I1")
async def enqueues_nothing(pair: Pair) -> None:
    meets(await pair.enqueue(), (), "the answer to no specs")


@proves("I1")
async def enqueues_one(pair: Pair) -> None:
    (answer,) = await pair.enqueue(pair.new())
    meets(answer.how, How.CREATED, "one new job")


@proves("I1")
async def enqueues_ten_thousand_at_once(pair: Pair) -> None:
    answers = await pair.enqueue(*[pair.new() for _ in range(BATCH_MAX)])
    meets(len(answers), BATCH_MAX, "answers")


@proves("I1", "I25")
async def refuses_more_than_ten_thousand_at_once(pair: Pair) -> None:
    await pair.refuses(Enqueue(tuple([pair.new() for _ in range(BATCH_MAX + 1)])), InvalidValue)


@proves("I1", "I25")
async def one_bad_element_stores_nothing(pair: Pair) -> None:
    await pair.refuses(Enqueue((pair.new(), pair.new(task="bad\nname"), pair.new())), InvalidName)
    meets((await pair.same_dump()).jobs, (), "jobs")


@proves("I1", "I13")
async def one_conflict_stores_nothing(pair: Pair) -> None:
    await pair.add(unique=UniqueKey("k"))
    first = pair.new()
    last = pair.new(unique=UniqueKey("k", on_conflict="raise"))
    await pair.refuses(Enqueue((first, last)), UniqueConflict)
    meets(await pair.state(first.id), None, "the job before the conflict")


@proves("I2", "I25")
async def refuses_one_id_twice_in_a_batch(pair: Pair) -> None:
    twice = pair.new()
    await pair.refuses(Enqueue((twice, pair.new(), twice)), DuplicateId)


@proves("I2")
async def the_same_id_again_is_existing(pair: Pair) -> None:
    spec = pair.new()
    await pair.enqueue(spec)
    (again,) = await pair.enqueue(spec)
    meets((again.id, again.how), (spec.id, How.EXISTING), "the second enqueue")


@proves("I2")
async def the_same_id_keeps_its_first_content(pair: Pair) -> None:
    spec = pair.new(payload=b"first", priority=1)
    await pair.enqueue(spec)
    await pair.enqueue(pair.new(id=spec.id, payload=b"second", queue="other", delay_us=5))
    meets(await pair.state(spec.id), State.READY, "the job")


@proves("I2")
async def the_same_id_among_new_ones_is_existing(pair: Pair) -> None:
    spec = pair.new()
    await pair.enqueue(spec)
    answers = await pair.enqueue(pair.new(), spec, pair.new())
    meets([each.how for each in answers], [How.CREATED, How.EXISTING, How.CREATED], "the batch")


@proves("I2")
async def the_same_id_after_its_end_is_existing(pair: Pair) -> None:
    lease = await pair.start()
    await pair.ends(lease, Verb.SUCCEED, result=b"1")
    (again,) = await pair.enqueue(pair.new(id=lease.id))
    meets(again.how, How.EXISTING, "a finished id")


@proves("I2")
async def the_same_id_after_its_deletion_is_new(pair: Pair) -> None:
    id = await pair.add()
    await pair.apply(DeleteJobs((id,)))
    (again,) = await pair.enqueue(pair.new(id=id))
    meets(again.how, How.CREATED, "a deleted id")


@proves("I1")
async def every_field_comes_back(pair: Pair) -> None:
    spec = pair.new(
        task="a.task",
        payload=EVERY_BYTE,
        codec="raw",
        version=7,
        priority=-3,
        delay_us=5,
        expires_in_us=DAY,
        timeout_us=SECOND + 1,
        max_attempts=9,
        max_lost=4,
        unique=UniqueKey("k", None, 77, "replace"),
        result_ttl_us=11,
        retention_us=12,
        retention_failed_us=13,
        tags=(("b", "2"), ("a", "1"), ("c", "3")),
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    await pair.enqueue(spec)
    (job,) = await pair.apply(Load((spec.id,)))
    meets(None if job is None else job.spec, spec, "the spec")


@proves("I1")
async def the_largest_values_come_back(pair: Pair) -> None:
    most = SPAN_MAX_US
    await pair.add(version=VERSION_MAX, priority=PRIORITY_MAX, max_attempts=ATTEMPTS_MAX, max_lost=ATTEMPTS_MAX)
    await pair.add(priority=PRIORITY_MIN, delay_us=most, expires_in_us=most, timeout_us=most)
    await pair.add(at=INSTANT_MAX, result_ttl_us=most, retention_us=most, retention_failed_us=most)
    await pair.add(unique=UniqueKey("k", None, most))
    meets(len((await pair.same_dump()).jobs), 4, "jobs")


@proves("I1")
async def the_smallest_values_come_back(pair: Pair) -> None:
    await pair.add(at=0, result_ttl_us=0, retention_us=0, retention_failed_us=0)
    await pair.add(expires_in_us=1, timeout_us=1, unique=UniqueKey("k", None, 1))
    meets(len((await pair.same_dump()).jobs), 2, "jobs")


@proves("I1")
async def an_empty_payload_comes_back(pair: Pair) -> None:
    await pair.add(payload=b"")


@proves("I1", "I25")
async def a_payload_of_the_limit_comes_back(pair: Pair) -> None:
    await pair.add(payload=EVERY_BYTE * (PAYLOAD_BYTES_MAX // 256))


@proves("I25")
async def refuses_a_payload_over_the_limit(pair: Pair) -> None:
    await pair.refuses(Enqueue((pair.new(payload=b"x" * (PAYLOAD_BYTES_MAX + 1)),)), PayloadTooLarge)


@proves("I1")
async def as_many_tags_as_allowed_come_back(pair: Pair) -> None:
    await pair.add(tags=tuple([(f"key {number}", "v" * number or "none") for number in range(TAGS_MAX)]))


@proves("I14")
async def due_in_the_past_is_ready(pair: Pair) -> None:
    id = await pair.add(at=pair.now - SECOND)
    meets(await pair.state(id), State.READY, "the job")


@proves("I14")
async def due_at_this_instant_is_ready(pair: Pair) -> None:
    id = await pair.add(at=pair.now)
    meets(await pair.state(id), State.READY, "the job")


@proves("I14")
async def due_in_a_microsecond_is_scheduled(pair: Pair) -> None:
    ids = [await pair.add(at=pair.now + 1), await pair.add(delay_us=1)]
    meets([await pair.state(id) for id in ids], [State.SCHEDULED] * 2, "the jobs")


@proves("I14")
async def starts_at_its_instant_and_not_before(pair: Pair) -> None:
    id = await pair.add(delay_us=SECOND)
    pair.passes(SECOND - 1)
    meets(await pair.claim(), (), "claimed a microsecond early")
    pair.passes(1)
    meets([job.id for job in await pair.claim()], [id], "claimed at its instant")
