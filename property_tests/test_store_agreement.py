"""All stores walk together: one state machine, every store on both runtimes, the same answers and the same rows.

The queue machine is the meaning of a store; here it leads, and memory, SQLite, PostgreSQL, Redis and MariaDB follow,
with the same ops at the same instants. Each runtime has one event loop in a thread of its own for all tests, so that
the steps of the walk are plain calls. What may be asked is described once, in taskweave.testing.operations; the stores
of single adapters are walked harder, and with planted bugs, by the other agreement tests here.

A server that is not there is left out and said to be; with CI=true that is a failure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
import servers
from anyio.from_thread import BlockingPortal, start_blocking_portal
from broken import BROKEN
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from server_fixtures import required

from taskweave.abc import TaskStore
from taskweave.core.queue import Queue
from taskweave.core.verbs import Count, Exchange, Export, Find, Lease, Maintain, Op, Settlement, TakeDump
from taskweave.exceptions import TaskweaveError
from taskweave.testing.comparing import comparable, difference, refusal_of
from taskweave.testing.operations import ENDS, LEASE_US, TASKS, Requests
from taskweave.testing.pair import START
from taskweave.testing.places import MakeStore, maker_at
from taskweave.testing.strategies import Drawn, steps

FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"
SERVERS = ("postgres", "redis", "mariadb")
BACKENDS = ("asyncio", "trio")
WALK = settings(max_examples=8, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(WALK, max_examples=3, stateful_step_count=220)
HUNT = settings(WALK, max_examples=60, phases=[Phase.generate], report_multiple_bugs=False, print_blob=False)

_numbers = itertools.count()


class Company:
    """The stores of one runtime, asked at once, in the runtime's own loop."""

    def __init__(self, backend: str, portal: BlockingPortal, makers: dict[str, MakeStore]) -> None:
        self.backend, self.portal, self.makers = backend, portal, makers
        self.stores: dict[str, TaskStore] = {}

    def open(self) -> ExitStack:
        exits = ExitStack()
        for name, make in self.makers.items():
            opened = self.portal.wrap_async_context_manager(make(f"walk_{next(_numbers)}"))
            self.stores[f"{name} on {self.backend}"] = exits.enter_context(opened)
        return exits

    def answers(self, ops: dict[str, Op[Any]], now: int) -> dict[str, Any]:
        return self.portal.call(self._ask, ops, now)

    async def _ask(self, ops: dict[str, Op[Any]], now: int) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def ask(name: str, store: TaskStore) -> None:
            try:
                found[name] = await store.apply(ops[name], at=now)
            except TaskweaveError as error:
                found[name] = refusal_of(error)

        async with anyio.create_task_group() as group:
            for name, store in self.stores.items():
                group.start_soon(ask, name, store)
        return found

    async def problems(self) -> dict[str, list[str]]:
        """What the stores that can look into themselves find wrong."""
        checks = {name: getattr(store, "check", None) for name, store in self.stores.items()}
        return {name: await check() for name, check in checks.items() if check is not None}


class AllStores(RuleBasedStateMachine):
    companies: list[Company]

    def __init__(self) -> None:
        super().__init__()
        self.exits = ExitStack()
        for company in self.companies:
            self.exits.enter_context(company.open())
        self.queue = Queue()
        self.now = START
        self.works = 0
        self.requests = Requests(Drawn(lambda strategy: None))

    def teardown(self) -> None:
        try:
            wrong = {name: found for each in self.companies for name, found in each.portal.call(each.problems).items()}
            assert {name: found for name, found in wrong.items() if found} == {}, "I26: what a store says of itself"
        finally:
            self.exits.close()

    def names(self) -> list[str]:
        return [name for company in self.companies for name in company.stores]

    def all(self, op: Op[Any]) -> Any:
        """The machine's answer, which is everybody's; afterwards all hold the same rows, and count them alike."""
        answer = self.compared(op, dict.fromkeys(self.names(), op))
        for look in (TakeDump(), Count()):
            self.compared(look, dict.fromkeys(self.names(), look))
        self.requests.answered(op, answer)
        return answer

    def compared(self, op: Op[Any], ops: dict[str, Op[Any]]) -> Any:
        repeat = isinstance(op, Exchange) and op.claim_id in self.queue._table.claims
        try:
            expected: Any = self.queue.apply(op, self.now)
        except TaskweaveError as error:
            expected = refusal_of(error)
        wanted = comparable(expected, repeat=repeat)
        self.last = {name: found for each in self.companies for name, found in each.answers(ops, self.now).items()}
        for name, found in self.last.items():
            where = difference(wanted, comparable(found, repeat=repeat))
            assert where is None, f"{name}: {op} at {self.now}: {where}"
        return expected

    @rule(step=steps)
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(data=st.data())
    def any_op(self, data: st.DataObject) -> None:
        self.requests.chooser = Drawn(data.draw)
        self.all(self.requests.next())

    @rule(verbs=st.lists(st.sampled_from(ENDS), min_size=1, max_size=3))
    def works(self, verbs: list[Any]) -> None:
        """What a worker does most: claim, and settle all but one of it."""
        self.works += 1
        self.all(Exchange("m1", f"v{self.works}", len(verbs) + 1, ("a", "b"), tuple(TASKS), LEASE_US))
        taken: list[Lease] = self.requests.handed[: len(verbs)]
        ends = [Settlement(lease.id, lease.fence, verb, b"1") for lease, verb in zip(taken, verbs, strict=False)]
        self.all(Exchange("m1", f"u{self.works}", 0, (), (), LEASE_US, tuple(ends)))

    @rule(step=st.sampled_from([0, 1_000_000, LEASE_US, LEASE_US]), limit=st.sampled_from([1, 2, 1_000]))
    def maintains(self, step: int, limit: int) -> None:
        """At instants that other instants are a lease or a retention before: the edges of "expired" are met."""
        self.now += step
        self.all(Maintain(LEASE_US, limit))

    @rule(limit=st.integers(1, 3))
    def pages(self, limit: int) -> None:
        """Every store walks its own pages by its own cursors."""
        for first, further in (
            (Find(limit=limit), lambda after: Find(after=after, limit=limit)),
            (Export(limit=limit), lambda after: Export(after, limit)),
        ):
            answer = self.compared(first, dict.fromkeys(self.names(), first))
            while answer.next is not None:
                ops = {name: further(found.next) for name, found in self.last.items()}
                answer = self.compared(further(answer.next), ops)


@pytest.fixture(scope="module")
def portals() -> Iterator[dict[str, BlockingPortal]]:
    with ExitStack() as exits:
        yield {backend: exits.enter_context(start_blocking_portal(backend)) for backend in BACKENDS}


def makers(kinds: tuple[str, ...] = SERVERS) -> dict[str, MakeStore]:
    there = {kind: maker_at(servers.shared(kind).url()) for kind in kinds if servers.missing(kind) is None}
    embedded = {"memory": maker_at("memory://"), "sqlite": maker_at(f"sqlite:///{FOLDER}/taskweave-walk.db")}
    return embedded | there


def machine(portals: dict[str, BlockingPortal], of: dict[str, MakeStore]) -> type[AllStores]:
    companies = [Company(backend, portals[backend], of) for backend in BACKENDS]
    return type("AllStores", (AllStores,), {"companies": companies})


@pytest.mark.parametrize("kind", SERVERS)
def test_no_store_is_left_out(kind: str) -> None:
    required(kind)


@pytest.mark.timeout(300)
@pytest.mark.proves(26)
@pytest.mark.proves(26, 126)
@pytest.mark.parametrize("profile", [WALK, LONG], ids=["many walks", "long walks"])
def test_all_stores_agree(profile: settings, portals: dict[str, BlockingPortal]) -> None:
    run_state_machine_as_test(machine(portals, makers()), settings=profile)


@pytest.mark.parametrize("bug", ["ForgetsTheFence", "ForgetsUnique", "ReordersAClaim"])
def test_a_store_that_goes_its_own_way_is_found(bug: str, portals: dict[str, BlockingPortal]) -> None:
    of = {"memory": maker_at("memory://"), bug: BROKEN[bug]}
    with pytest.raises(AssertionError, match=bug):
        run_state_machine_as_test(machine(portals, of), settings=HUNT)
