"""A connection that breaks around a commit: the op is sent again, and it is as if it had been sent once.

Promises under test: an op is its own token (I2, I8), `applied="no"` is said only where it is proved, nothing is lost or
doubled. Each verb is cut at each of its requests in turn: before it reaches the server, after the server has answered,
and in the middle of the answer. The queue machine says what every answer and every row must be. SQLite and memory walk
along behind `Flaky`, so that the harness itself is tested where there is no server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import anyio
import pytest
from ambiguity import CASES, Prepare, Twin, same
from attrs import define
from flaky import Faults, Flaky
from proxy import Proxy, Where, nth
from servers import Server

from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.verbs import Op, TakeDump
from taskweave.exceptions import StoreError, StoreUnavailable
from taskweave.testing.comparing import comparable, difference

pytestmark = pytest.mark.anyio

STORES = ["sqlite", "postgres", "mysql", "redis"]
PLACES: tuple[Where, ...] = ("before", "after", "mid")
REQUESTS_MAX = 60  # of one op


class Network(Protocol):
    """Between a store and its jobs: breaks once, when armed."""

    places: tuple[Where, ...]

    def arm(self, n: int, where: Where) -> None: ...

    def struck(self) -> int:
        """How often it has broken since it was armed; it is whole again then."""
        ...


@define
class Wire:
    """A real connection through the proxy."""

    proxy: Proxy
    places: tuple[Where, ...] = PLACES

    def arm(self, n: int, where: Where) -> None:
        self.proxy.injected.clear()
        self.proxy.plan = nth(n, where)

    def struck(self) -> int:
        self.proxy.plan = None
        return self.proxy.injected.total()


class Call:
    """The call of a store in this process, which is one request."""

    places: tuple[Where, ...] = ("before", "after")

    def __init__(self) -> None:
        self.left: list[Any] = []
        self.faults = Faults(lambda _: self.left.pop() if self.left else None)

    def arm(self, n: int, where: Where) -> None:
        self.faults.injected.clear()
        self.left = [where] if n == 1 else []

    def struck(self) -> int:
        return self.faults.injected.total()


@asynccontextmanager
async def between(
    kind: str, tmp_path: Path, shared_server: Callable[[str], Server]
) -> AsyncIterator[tuple[Network, TaskStore, TaskStore]]:
    """The network, the store behind it, and the same store reached around it; in a namespace of its own."""
    if kind == "sqlite":
        call, url = Call(), f"sqlite:///{tmp_path}/jobs.db"
        async with connect(url) as direct, Flaky(connect(url), call.faults) as behind:
            yield call, behind, direct
        return
    server = shared_server(kind)
    url = server.url(f"ambiguous_{uuid4().hex[:12]}")
    with Proxy(server) as proxy:
        async with connect(url) as direct:
            try:
                async with connect(proxy.url(url)) as behind:
                    yield Wire(proxy), behind, direct
            finally:
                await direct.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


async def sent(store: TaskStore, op: Op[Any], now: int) -> tuple[Any, StoreError | None]:
    """The answer, or the error instead of one."""
    try:
        with anyio.fail_after(30):
            return await store.apply(op, at=now), None
    except StoreError as error:
        return None, error


async def cut(twin: Twin, network: Network, behind: TaskStore, prepare: Prepare, n: int, where: Where) -> bool:
    """One op with one fault; False when the op has fewer than n requests."""
    twin.case += 1
    op = await prepare(twin)
    await behind.apply(TakeDump(), at=twin.now)  # connected and logged in before the fault
    before = twin.expected()
    same(before, await twin.dump(), "before the fault")
    network.arm(n, where)
    answer, problem = await sent(behind, op, twin.now)
    struck, here = network.struck(), f"{op.name}, cut {where} request {n}"
    expected = twin.machine.apply(op, twin.now)
    once = twin.expected()
    if problem is None:
        if struck and difference(comparable(expected, repeat=True), comparable(answer, repeat=True)):
            expected = twin.machine.apply(op, twin.now)  # the store has sent it again by itself
        same(expected, answer, here)
        same(once, await twin.dump(), here)
        return bool(struck)
    assert struck == 1, f"an error without a fault: {problem}"
    assert isinstance(problem, StoreUnavailable), f"{type(problem).__name__} for a broken connection"
    there = await twin.dump()
    if difference(comparable(before), comparable(there)) is not None:
        same(once, there, f"{here}: half of it was done")
        assert problem.applied == "unknown", f"{here}: it took effect, and 'no' was said"
        expected = twin.machine.apply(op, twin.now)  # what the machine says to a repeat
    answer, again = await sent(behind, op, twin.now)
    assert again is None, f"the network is whole again: {again}"
    same(expected, answer, here)
    same(once, await twin.dump(), here)
    same(once, twin.expected(), "the machine itself")
    return True


async def sweep(
    twin: Twin, network: Network, behind: TaskStore, prepare: Prepare, places: Sequence[Where]
) -> Counter[Where]:
    """Cut the op at each of its requests in turn; how often each place was struck."""
    struck: Counter[Where] = Counter()
    for where in places:
        for n in range(1, REQUESTS_MAX):
            if not await cut(twin, network, behind, prepare, n, where):
                break
            struck[where] += 1
    return struck


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("prepare", CASES.values(), ids=CASES)
async def test_an_op_that_was_cut_and_sent_again_is_as_sent_once(
    kind: str,
    prepare: Prepare,
    tmp_path: Path,
    shared_server: Callable[[str], Server],
    anyio_backend: tuple[str, dict[str, Any]],
) -> None:
    async with between(kind, tmp_path, shared_server) as (network, behind, direct):
        places = places_of(network, prepare, anyio_backend[0])
        struck = await sweep(Twin(direct), network, behind, prepare, places)
    assert set(struck) == set(places), "each place was struck"


def places_of(network: Network, prepare: Prepare, loop: str) -> list[Where]:
    """All of them for the two verbs that carry most; what a runtime could change is met after the commit."""
    if loop == "trio":
        return ["after"]
    return [where for where in network.places if where != "mid" or prepare.__name__ in ("enqueue", "exchange")]


# --- planted bugs ---------------------------------------------------------------------------------------------------


def says_no(patch: pytest.MonkeyPatch, module: str, *names: str) -> None:
    """The store claims of every error that nothing has happened."""
    place = import_module(module)
    for name in names:
        real = getattr(place, name)

        def sure(*args: Any, real: Callable[..., Any] = real, **options: Any) -> Any:
            error = real(*args, **options)
            if isinstance(error, StoreError):
                error.applied = "no"
            return error

        patch.setattr(place, name, sure)


def commits_each_statement(patch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """The store begins no transaction."""
    patch.setattr(import_module(module), name, lambda kind, *, pooled: "SELECT 1")


PLANTED: dict[str, tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = {
    "postgres says no": ("postgres", "cancel", lambda p: says_no(p, "taskweave.stores._postgres.session", "converted")),
    "mysql says no": ("mysql", "cancel", lambda p: says_no(p, "taskweave.stores._mysql.session", "converted")),
    "redis says no": ("redis", "cancel", lambda p: says_no(p, "taskweave.stores._redis.link", "refused", "broken")),
    "postgres commits each statement": (
        "postgres",
        "maintain",
        lambda p: commits_each_statement(p, "taskweave.stores._postgres.session", "begin_sql"),
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
async def test_a_planted_bug_is_found(
    planted: tuple[str, str, Callable[[pytest.MonkeyPatch], None]],
    tmp_path: Path,
    shared_server: Callable[[str], Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, verb, plant = planted
    async with between(kind, tmp_path, shared_server) as (network, behind, direct):
        plant(monkeypatch)
        with pytest.raises(AssertionError, match=r"'no' was said|half of it was done"):
            await sweep(Twin(direct), network, behind, CASES[verb], PLACES)
        monkeypatch.undo()
