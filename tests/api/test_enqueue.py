"""Enqueueing: what is stored is what was asked for, and what is refused leaves the store as it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest

from taskweave import (
    App,
    Ctx,
    DuplicateId,
    InvalidArguments,
    InvalidInput,
    InvalidName,
    InvalidValue,
    NaiveDatetime,
    NotOpen,
    NotSerializable,
    PayloadTooLarge,
    Priority,
    Unique,
    UniqueConflict,
    UnknownOption,
    UnknownTask,
    inject,
)
from taskweave.core.verbs import TakeDump

pytestmark = pytest.mark.anyio


@attrs.frozen
class Address:
    street: str
    number: int


def registered(app: App) -> dict[str, Any]:
    async def plain(url: str, times: int = 1, *rest: float, flag: bool = False, **more: str) -> int:
        return len(url)

    async def loose(value, other=None):  # type: ignore[no-untyped-def]
        return value

    async def mail(to: Address, ctx: Ctx = inject()) -> str:
        return to.street

    def bare_ctx(ctx: Ctx, n: int) -> int:
        return n

    return {fn.__name__: app.task(fn, name=fn.__name__) for fn in (plain, loose, mail, bare_ctx)}


@pytest.mark.proves(1)
async def test_a_job_shows_what_was_asked_for(app: App) -> None:
    tasks = registered(app)
    async with app:
        plain = tasks["plain"].options(
            priority=Priority.HIGH,
            queue="web",
            tags={"tenant": "acme"},
            delay="1h",
            timeout=2.5,
            attempts=3,
            deadline="2h",
        )
        handle = await plain.options(deadline="2h").enqueue("http://x", 2, 0.5, flag=True, colour="red")
        job = await app.get(handle.id)
    assert (job.task, job.queue, job.priority, job.state.value) == ("plain", "web", 10, "scheduled")
    assert job.args == ("http://x", 2, 0.5)
    assert job.kwargs == {"flag": True, "colour": "red"}
    assert job.tags == {"tenant": "acme"}
    assert (job.attempt, job.max_attempts, job.job.spec.timeout_us) == (0, 3, 2_500_000)
    assert job.due_at - job.created_at == timedelta(hours=1)
    assert job.expires_at is not None
    assert job.expires_at - job.created_at == timedelta(hours=2)
    assert (job.finished_at, job.started_at, job.error, job.history) == (None, None, None, ())
    assert job.created_at.tzinfo is UTC
    shown = job.to_json()
    assert shown["args"] == ["http://x", 2, 0.5]
    assert shown["kwargs"] == {"flag": True, "colour": "red"}
    assert shown["tags"] == {"tenant": "acme"}


async def test_at_is_an_instant(app: App) -> None:
    tasks = registered(app)
    at = datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    async with app:
        handle = await tasks["plain"].options(at=at).enqueue("x")
        assert (await app.get(handle)).due_at == at


async def test_an_id_of_ones_own_makes_enqueue_idempotent(app: App) -> None:
    tasks = registered(app)
    bound = tasks["plain"].options(id=str(uuid4()))
    async with app:
        first, second = await bound.enqueue("x"), await bound.enqueue("x")
        assert first.id == second.id
        assert (first.deduplicated, second.deduplicated) == (False, True)
        with pytest.raises(DuplicateId):
            await bound.enqueue_many([("x",), ("y",)])
        assert len([job async for job in app.find()]) == 1


BAD: dict[str, tuple[type[InvalidInput] | type[UnknownOption], str, Callable[[dict[str, Any], App], Any]]] = {
    "missing": (InvalidArguments, "url", lambda t, _: t["plain"].enqueue()),
    "wrong type": (InvalidArguments, "url", lambda t, _: t["plain"].enqueue(1)),
    "text for int": (InvalidArguments, "times", lambda t, _: t["plain"].enqueue("x", "1")),
    "bool for int": (InvalidArguments, "times", lambda t, _: t["plain"].enqueue("x", True)),
    "rest": (InvalidArguments, "rest[1]", lambda t, _: t["plain"].enqueue("x", 1, 1.0, "2")),
    "more": (InvalidArguments, "colour", lambda t, _: t["plain"].enqueue("x", colour=1)),
    "twice": (InvalidArguments, "url", lambda t, _: t["plain"].enqueue("x", url="y")),
    "no such": (InvalidArguments, "tos", lambda t, _: t["mail"].enqueue(tos=1)),
    "too many": (InvalidArguments, "argument 3", lambda t, _: t["loose"].enqueue(1, 2, 3)),
    "ctx given": (InvalidArguments, "ctx", lambda t, _: t["mail"].enqueue(Address("a", 1), ctx=None)),
    "inside": (InvalidArguments, "to.number", lambda t, _: t["mail"].enqueue(Address("a", "1"))),  # type: ignore[arg-type]
    "another class": (InvalidArguments, "to", lambda t, _: t["mail"].enqueue({"street": "a", "number": 1})),
    "nan": (InvalidArguments, "rest[0]", lambda t, _: t["plain"].enqueue("x", 1, float("nan"))),
    "surrogate": (InvalidArguments, "url", lambda t, _: t["plain"].enqueue("\ud800")),
    "not plain": (NotSerializable, "value", lambda t, _: t["loose"].enqueue(object())),
    "set": (NotSerializable, "value[0]", lambda t, _: t["loose"].enqueue([{1}])),
    "key": (NotSerializable, "value", lambda t, _: t["loose"].enqueue({1: 2})),
    "infinity": (NotSerializable, "value['a']", lambda t, _: t["loose"].enqueue({"a": float("inf")})),
    "deep": (NotSerializable, "value", lambda t, _: t["loose"].enqueue(nested(70))),
    "huge int": (NotSerializable, "value", lambda t, _: t["loose"].enqueue(10**5000)),
    "cycle": (NotSerializable, "value", lambda t, _: t["loose"].enqueue(cycle())),
    "repr raises": (NotSerializable, "value", lambda t, _: t["loose"].enqueue(Unshowable())),
    "too large": (PayloadTooLarge, "", lambda t, _: t["plain"].enqueue("x" * (1 << 20))),
    "one of many": (InvalidArguments, "times", lambda t, _: t["plain"].enqueue_many([("a",), ("b", None)])),
    "naive": (NaiveDatetime, "at", lambda t, _: t["plain"].options(at=datetime(2030, 1, 1)).enqueue("x")),
    "at": (InvalidValue, "at", lambda t, _: t["plain"].options(at="tomorrow").enqueue("x")),
    "at and delay": (InvalidValue, "at", lambda t, _: t["plain"].options(at=datetime.now(UTC), delay=1).enqueue("x")),
    "negative delay": (InvalidValue, "delay", lambda t, _: t["plain"].options(delay=-1).enqueue("x")),
    "absurd delay": (InvalidValue, "delay", lambda t, _: t["plain"].options(delay="9999d").enqueue("x")),
    "nan delay": (InvalidValue, "delay", lambda t, _: t["plain"].options(delay=float("nan")).enqueue("x")),
    "no timeout": (InvalidValue, "timeout", lambda t, _: t["plain"].options(timeout=0).enqueue("x")),
    "past deadline": (InvalidValue, "deadline", lambda t, _: t["plain"].options(deadline="-1s").enqueue("x")),
    "absurd priority": (InvalidValue, "priority", lambda t, _: t["plain"].options(priority=1 << 15).enqueue("x")),
    "float priority": (InvalidValue, "priority", lambda t, _: t["plain"].options(priority=1.5).enqueue("x")),
    "bool priority": (InvalidValue, "priority", lambda t, _: t["plain"].options(priority=True).enqueue("x")),
    "attempts": (InvalidValue, "attempts", lambda t, _: t["plain"].options(attempts=0).enqueue("x")),
    "control queue": (InvalidName, "queue", lambda t, _: t["plain"].options(queue="a\nb").enqueue("x")),
    "long queue": (InvalidName, "queue", lambda t, _: t["plain"].options(queue="q" * 201).enqueue("x")),
    "empty queue": (InvalidName, "queue", lambda t, _: t["plain"].options(queue="").enqueue("x")),
    "no queue": (InvalidName, "queue", lambda t, _: t["plain"].options(queue=None).enqueue("x")),
    "tag": (InvalidName, "tag a", lambda t, _: t["plain"].options(tags={"a": "\x00"}).enqueue("x")),
    "tags": (InvalidValue, "tags", lambda t, _: t["plain"].options(tags="urgent").enqueue("x")),
    "id": (InvalidValue, "id", lambda t, _: t["plain"].options(id="1").enqueue("x")),
    "unique": (InvalidValue, "unique", lambda t, _: t["plain"].options(unique=True).enqueue("x")),
    "key text": (InvalidName, "key", lambda t, _: t["plain"].call("x").enqueue(key="\n")),
    "option": (UnknownOption, "prioritty", lambda t, _: t["plain"].options(prioritty=1).enqueue("x")),
    "unknown task": (UnknownTask, "plane", lambda _, app: app.enqueue("plane", "x")),
    "by name": (InvalidArguments, "url", lambda _, app: app.enqueue("plain", 1)),
    "same id in one batch": (DuplicateId, "", lambda t, app: app.enqueue_many(same_id(t))),
    "update": (InvalidValue, "priority", lambda _, app: app.update("x", priority="high")),
    "pause": (InvalidName, "queue", lambda _, app: app.pause("a\x00b")),
    "states": (InvalidValue, "states", lambda _, app: collected(app, states=["done"])),
}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def same_id(tasks: dict[str, Any]) -> list[Any]:
    id = str(uuid4())
    return [tasks["plain"].options(id=id).call("x"), tasks["loose"].options(id=id.upper()).call(1)]


async def collected(app: App, **query: Any) -> list[Any]:
    return [job async for job in app.find(**query)]


async def performed(act: Callable[[dict[str, Any], App], Any], tasks: dict[str, Any], app: App) -> None:
    acted = act(tasks, app)
    if inspect.isawaitable(acted):
        await acted


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_by_name_and_nothing_is_stored(app: App, name: str) -> None:
    error, named, act = BAD[name]
    tasks = registered(app)
    async with app:
        await tasks["plain"].enqueue("before")
        before = await app.store.apply(TakeDump())
        with pytest.raises(error) as caught:
            await performed(act, tasks, app)
        assert await app.store.apply(TakeDump()) == before
    facts = [str(getattr(caught.value, each, "")) for each in ("field", "option", "task")]
    assert not named or named in facts or any(fact.startswith(named) for fact in facts)
    assert str(caught.value).startswith(f"[{error.code}]")


async def test_the_limit_is_on_the_bytes_that_are_sent(store_url: str) -> None:
    app = App(store_url, payload_bytes_max=64)
    tasks = registered(app)
    async with app:
        await tasks["plain"].enqueue("x" * 55)
        with pytest.raises(PayloadTooLarge) as caught:
            await tasks["plain"].enqueue("x" * 56)
    assert (caught.value.size, caught.value.limit) == (65, 64)


async def test_outside_of_the_app_it_is_not_open(app: App) -> None:
    tasks = registered(app)
    with pytest.raises(NotOpen, match="async with app"):
        await tasks["plain"].enqueue("x")
    async with app:
        handle = await tasks["plain"].enqueue("x")
    with pytest.raises(NotOpen):
        await handle.status()


async def test_the_app_can_be_nested_and_opened_again(app: App) -> None:
    tasks = registered(app)
    async with app:
        async with app:
            handle = await tasks["plain"].enqueue("x")
        assert await handle.status() == "ready"
    async with app:
        assert await handle.status() == "ready"


async def test_many_are_stored_in_order_across_batches(app: App) -> None:
    tasks = registered(app)
    async with app:
        handles = await tasks["plain"].enqueue_many((f"u{number}",) for number in range(2_500))
        assert len({handle.id for handle in handles}) == 2_500
        jobs = [job async for job in app.find()]
    assert [job.args[0] for job in reversed(jobs)] == [f"u{number}" for number in range(2_500)]
    assert [job.id for job in reversed(jobs)] == [handle.id for handle in handles]


@pytest.mark.proves(8)
async def test_unique_jobs_are_enqueued_once(app: App) -> None:
    @app.task(name="u", unique=Unique(by=("tenant", "to")))
    async def send(tenant: str, to: str = "all", text: str = "") -> None: ...

    async with app:
        first = await send.enqueue("acme", "all", "one")
        again = await send.enqueue(tenant="acme", text="two")
        other = await send.enqueue("acme", "bob")
        assert again.deduplicated
        assert again.id == first.id
        assert not other.deduplicated
        many = await send.enqueue_many([("acme",), ("beta",), ("beta",)])
        assert [each.deduplicated for each in many] == [True, False, True]
        strict = send.options(unique=Unique(by="tenant", on_conflict="raise"))
        await strict.enqueue("acme")
        with pytest.raises(UniqueConflict) as caught:
            await send.options(unique=Unique(by="tenant", on_conflict="raise")).enqueue("acme")
        assert caught.value.holder
        replaced = await send.options(unique=Unique(by=("tenant", "to"), on_conflict="replace")).enqueue(
            "acme", text="3"
        )
        assert replaced.enqueued.how == "replaced"


async def test_a_key_of_ones_own_is_unique_too(app: App) -> None:
    tasks = registered(app)
    async with app:
        first = await tasks["plain"].call("x").enqueue(key="k")
        second = await tasks["plain"].call("y").enqueue(key="k")
    assert second.id == first.id
    assert second.deduplicated


@pytest.mark.proves(33)
async def test_tags_are_kept_added_to_and_found(app: App) -> None:
    @app.task(name="t", tags={"team": "mail", "env": "live"})
    async def work(n: int) -> None: ...

    async with app:
        await work.enqueue(1)
        await work.options(tags={"env": "test", "tenant": "acme"}).enqueue(2)
        await work.options(tags=("urgent",)).enqueue(3)
        assert [job.args[0] for job in await collected(app, tags={"tenant": "acme"})] == [2]
        assert [job.args[0] for job in await collected(app, tags={"team": "mail", "env": "live"})] == [3, 1]
        assert [job.args[0] for job in await collected(app, tags=("urgent",))] == [3]
        (job,) = await collected(app, tags={"tenant": "acme"})
        assert job.tags == {"team": "mail", "env": "test", "tenant": "acme"}


def test_a_call_gives_its_spec(app: App) -> None:
    tasks = registered(app)
    call = tasks["plain"].options(queue="web").call("x", flag=True)
    spec = call.spec(lambda: "id")
    assert (spec.id, spec.task, spec.queue, spec.payload) == ("id", "plain", "web", b'[["x"],{"flag":true}]')
    assert call.spec().id != call.spec().id


@pytest.mark.parametrize(
    ("calls", "field"),
    [([(1,), 2], r"calls\[1\] is 2"), (None, "calls is None"), (7, "calls is 7"), ([None], r"calls\[0\]")],
)
async def test_many_calls_that_are_no_tuples_are_refused_by_name(app: App, calls: Any, field: str) -> None:
    @app.task
    async def one(n: int) -> None: ...

    async with app:
        with pytest.raises(InvalidValue, match=field):
            await one.enqueue_many(calls)
        with pytest.raises(TypeError, match="mine"):
            await one.enqueue_many(_raises() for _ in range(2))
        assert [view async for view in app.find()] == []


def _raises() -> Any:
    raise TypeError("mine")


async def test_a_task_without_its_arguments_is_no_call(app: App) -> None:
    @app.task
    async def one(n: int) -> None: ...

    async with app:
        with pytest.raises(InvalidValue, match=r"calls\[1\] is .*task\.call"):
            await app.enqueue_many([one.call(1), one])  # type: ignore[list-item]  # the mistake
        assert [view async for view in app.find()] == []
