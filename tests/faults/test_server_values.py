"""Odd values on servers: NUL and four-byte characters, values at their limits, names made to inject SQL, Lua or a glob.

The queue machine says what is accepted, what comes back, and what is refused with which error; a server must agree to
the letter, whatever its own text types, packet sizes and pattern languages are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from ambiguity import LEASE_US, Twin, same
from servers import Server

from taskweave.connect import connect
from taskweave.core.bounds import KEY_CHARS_MAX, NAME_CHARS_MAX, PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX, TAGS_MAX
from taskweave.core.job import Failure, Progress, Spec, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Find,
    LeaseProgress,
    Load,
    Maintain,
    Op,
    PauseQueue,
    PurgeQueue,
    ResumeQueue,
    Settlement,
    UpdateJob,
)
from taskweave.exceptions import InvalidInput

pytestmark = pytest.mark.anyio

NAMES = [
    "a'; DROP TABLE job; --",
    'a"; DROP SCHEMA public CASCADE; --',
    "a\\' OR '1'='1",
    "`a`; DROP TABLE job",
    "%s %(name)s {name} :name $1 ?",
    "a*", "a?", "a[b-d]", "[^a]", "a]b",
    "{other}:meta", "a}b{c", "all", "meta",
    "'..redis.call('FLUSHALL')..'", "]] redis.call('FLUSHALL') --[[",
    "_", "%", "a\\_b", "a\\",
    "Straße", "STRASSE", "straße", "\U0001f92f", "é", "e\u0301", "ı", "I", "i",
    "a ", "a", " a", "A",
    "n" * NAME_CHARS_MAX, "\U0001f92f" * NAME_CHARS_MAX,
]  # fmt: skip
TEXTS = ["", "\x00", "a\x00b", "\U0001f92f\U00010348", "\ud800", "\u2028\r\n\x1b[31m", "\\x00\\0'\"`", "x" * 8_000]


@pytest.fixture(params=["postgres", "mysql", "redis"])
def server(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> Server:
    return shared_server(request.param)


@asynccontextmanager
async def twin_on(server: Server, **options: Any) -> AsyncIterator[Twin]:
    async with connect(server.url(f"values_{uuid4().hex[:12]}"), **options) as store:
        try:
            yield Twin(store)
        finally:
            await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


async def agrees(twin: Twin, op: Op[Any], what: str) -> Any:
    """Both answer the same, or refuse with the same words."""
    try:
        expected: Any = twin.machine.apply(op, twin.now)
    except InvalidInput as error:
        refused = error
    else:
        found = await twin.direct.apply(op, at=twin.now)
        same(expected, found, what)
        return found
    with pytest.raises(type(refused)) as caught:
        await twin.direct.apply(op, at=twin.now)
    assert str(caught.value) == str(refused), what
    return None


async def test_names_mean_themselves_and_nothing_else(server: Server) -> None:
    """As queues, tasks, tags, keys and ids: none reaches another's jobs, and none is a pattern or a statement."""
    async with twin_on(server) as twin:
        await agrees(twin, Enqueue((Spec("bystander", "task", "queue", b"[]", tags=(("tag", "value"),)),)), "bystander")
        for number, name in enumerate(NAMES):
            spec = Spec(name, name, name, b"[]", tags=((name, name),), unique=UniqueKey(name), max_attempts=2)
            await agrees(twin, Enqueue((spec, Spec(f"two{number}", name, name, b"[]"))), f"enqueue {name!r}")
        same(twin.expected(), await twin.dump(), "after all of them")
        for name in NAMES:
            looks: list[Op[Any]] = [Find(queue=name), Find(task=name), Find(tags=((name, name),)), Load((name,))]
            steps: list[Op[Any]] = [
                PauseQueue(name),
                Count(),
                Exchange(name, f"paused{name}"[:NAME_CHARS_MAX], 5, (name,), (name,), LEASE_US),
                ResumeQueue(name),
                UpdateJob(name, priority=3),
                Exchange(name, name, 1, (name,), (name,), LEASE_US),
                CancelJobs((name,), name),
                DeleteJobs((name,)),
                PurgeQueue(name, 1),
            ]
            for op in (*looks, *steps):
                await agrees(twin, op, f"{op.name} {name!r}")
        same(twin.expected(), await twin.dump(), "in the end")
        twin.now += 2 * LEASE_US
        await agrees(twin, Maintain(LEASE_US), "maintain")
        same(twin.expected(), await twin.dump(), "and after maintenance")


async def test_texts_and_bytes_come_back_as_they_went(server: Server) -> None:
    async with twin_on(server) as twin:
        for number, text in enumerate(TEXTS):
            data = text.encode("utf-8", "surrogatepass")
            payloads = (data, bytes(range(256)), b"")
            specs = [Spec(f"j{number}-{i}", "t", f"q{number}", each, trace=text) for i, each in enumerate(payloads)]
            for spec in specs:
                await agrees(twin, Enqueue((spec,)), f"enqueue {text!r}")
            await agrees(twin, Load(tuple(spec.id for spec in specs)), f"load {text!r}")
            claim = Exchange("m", f"c{number}", 3, (f"q{number}",), ("t",), LEASE_US)
            answer = await agrees(twin, claim, f"claim {text!r}")
            failure = Failure(f"E{text}"[:100], text, text, ("E",))
            for job, verb in zip(answer.claimed, (Verb.SUCCEED, Verb.FAIL, Verb.RETRY), strict=False):
                end = Settlement(
                    job.id,
                    job.fence,
                    verb,
                    data if verb is Verb.SUCCEED else None,
                    error=None if verb is Verb.SUCCEED else failure,
                    reason=None if verb is Verb.SUCCEED else text,
                )
                progress = (LeaseProgress(job.id, job.fence, Progress(0.5, None, text)),)
                told = Exchange("m", f"p{job.id}", 0, (), (), LEASE_US, (), progress)
                await agrees(twin, told, f"progress {text!r}")
                await agrees(twin, Exchange("m", f"s{job.id}", 0, (), (), LEASE_US, (end,)), f"settle {text!r}")
            await agrees(twin, CancelJobs(tuple(spec.id for spec in specs), text), f"cancel {text!r}")
            await agrees(twin, Load(tuple(spec.id for spec in specs)), f"load {text!r}")
        same(twin.expected(), await twin.dump(), "in the end")


@pytest.mark.parametrize("name", ["\x00", "a\x00", "\ud800", "", "n" * (NAME_CHARS_MAX + 1), "a\nb"])
async def test_names_that_no_store_takes_are_refused_with_the_same_words(server: Server, name: str) -> None:
    async with twin_on(server) as twin:
        for fields in (
            {"queue": name},
            {"task": name},
            {"id": name},
            {"tags": (("t", name),)},
            {"tags": ((name, "v"),)},
        ):
            given: dict[str, Any] = {"id": "j1", "task": "t", "queue": "q", "payload": b"[]", **fields}
            await agrees(twin, Enqueue((Spec(**given),)), str(fields))
        await agrees(twin, Enqueue((Spec("j1", "t", "q", b"[]", unique=UniqueKey(name)),)), "unique key")
        assert (await twin.dump()).jobs == twin.expected().jobs


async def test_values_at_their_limits_are_kept_and_beyond_are_refused(server: Server) -> None:
    async with twin_on(server) as twin:
        most = {
            "payload": b"\xff" * PAYLOAD_BYTES_MAX,
            "tags": tuple((f"{number:0{NAME_CHARS_MAX}}", "\U0001f92f" * NAME_CHARS_MAX) for number in range(TAGS_MAX)),
            "unique": UniqueKey("\U0001f92f" * KEY_CHARS_MAX),
            "trace": "t" * 500,
        }
        await agrees(twin, Enqueue((Spec("j1", "t", "q", **most),)), "at the limits")  # type: ignore[arg-type]
        await agrees(twin, Enqueue((Spec("j2", "t", "q", b"x" * (PAYLOAD_BYTES_MAX + 1)),)), "a byte too much")
        claim = await agrees(twin, Exchange("m", "c", 1, ("q",), ("t",), LEASE_US), "claim")
        (job,) = claim.claimed
        end = Settlement(job.id, job.fence, Verb.SUCCEED, b"\x00" * RESULT_BYTES_MAX)
        await agrees(twin, Exchange("m", "s", 0, (), (), LEASE_US, (end,)), "the largest result")
        await agrees(twin, Load(("j1", "j2")), "load")


async def test_a_batch_larger_than_a_packet_is_stored_whole_and_claimed(server: Server) -> None:
    """20 MiB in one op, where MariaDB takes 16 MiB in one packet by default."""
    async with twin_on(server) as twin:
        specs = tuple(Spec(f"j{number}", "t", "q", bytes([number]) * PAYLOAD_BYTES_MAX) for number in range(20))
        await agrees(twin, Enqueue(specs), "enqueue")
        claim = await agrees(twin, Exchange("m", "c", 20, ("q",), ("t",), LEASE_US), "claim")
        result = b"\xee" * RESULT_BYTES_MAX
        ends = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, result) for job in claim.claimed)
        await agrees(twin, Exchange("m", "s", 0, (), (), LEASE_US, ends), "settle")
        await agrees(twin, Load(tuple(spec.id for spec in specs)), "load")
