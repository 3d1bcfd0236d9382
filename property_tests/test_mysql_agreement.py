"""MySQL, on MariaDB 10.11, walks beside the queue machine: the same ops give the same answers and the same rows.

The walk is SQLite's (test_sqlite_agreement), through the store itself. What SQL decides here (which rows, in which
order, and what a plain success writes) is what planted bugs change, and each must be found. Each walk ends with the
store's own check of its rows.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import servers
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from server_fixtures import required

from taskweave.core.verbs import Count, Load, Op, TakeDump
from taskweave.exceptions import StoreError, TaskweaveError

pytest.importorskip("asyncmy")

from taskweave.stores._mysql.link import MySQLLink
from taskweave.stores._mysql.statements import _TEXTS, _named, compiled
from taskweave.stores.mysql import MySQLTaskStore

CLEAR = (
    "TRUNCATE {}_job",
    "TRUNCATE {}_claim",
    "DELETE FROM {}_pause",
    "UPDATE {}_meta SET floor = 0, rerank_after = NULL",
)
BACK = [500_000, 2_000_000, 6_000_000]


def _neighbour(name: str) -> ModuleType:
    """The module beside this one: pytest imports each test file alone, by its path."""
    spec = importlib.util.spec_from_file_location(f"{name}_for_mysql", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


walks: Any = _neighbour("test_sqlite_agreement")


class Site:
    """The stores of this module, driven from synchronous code: one for each aging setting, emptied for each walk."""

    def __init__(self, portal: BlockingPortal, url: str) -> None:
        self.portal = portal
        self.url = url
        self.stores: dict[int | None, MySQLTaskStore] = {}

    def store(self, aging_us: int | None) -> MySQLTaskStore:
        store = self.stores.get(aging_us)
        if store is None:
            aging = None if aging_us is None else aging_us / 1e6
            store = MySQLTaskStore(self.url, namespace=f"walk_{len(self.stores)}", aging=aging, pool_max=1)
            self.portal.call(store.__aenter__)
            self.stores[aging_us] = store
        self.portal.call(self._clear, store)
        return store

    async def _clear(self, store: MySQLTaskStore) -> None:
        assert store._opened is not None
        session = store._opened.session
        connection = await session.pool.take()
        for text in CLEAR:
            await MySQLLink(connection, {}).run(text.format(session.pool.address.namespace).encode())
        session.pool.give_back(connection)

    def close(self) -> None:
        for store in self.stores.values():
            self.portal.call(store.drop)
            self.portal.call(store.__aexit__, None, None, None)


@pytest.fixture(scope="module", autouse=True)
def site() -> Iterator[Site]:
    required("mariadb")
    with start_blocking_portal() as portal:
        made = Agreement.site = Site(portal, servers.shared("mariadb").url())
        yield made
        made.close()


class Agreement(walks.Agreement):  # type: ignore[misc]
    site: Site
    planted: tuple[str, str, str] | None = None

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.walk = walks.Walk(self.aging_us)
        self.store = self.site.store(self.aging_us)
        self.asked = 0
        if self.planted is not None:
            self.plant(*self.planted)

    def plant(self, name: str, right: str, wrong: str) -> None:
        """Another text in the place of one statement."""
        assert right in _TEXTS[name]
        assert self.store._opened is not None
        session = self.store._opened.session
        namespace = session.pool.address.namespace
        text = _named(_TEXTS[name].replace(right, wrong), namespace, session.collation)
        session.statements = {**session.statements, name: compiled(text)}

    def teardown(self) -> None:
        assert self.site.portal.call(self.store.check) == [], "I26: a column that does not follow from the job's state"

    def answered(self, op: Op[Any]) -> Any:
        async def ask() -> Any:
            try:
                return await self.store.apply(op, at=self.walk.now)
            except StoreError:
                raise
            except TaskweaveError as error:
                return type(error)

        return self.site.portal.call(ask)

    def both(self, op: Op[Any]) -> None:
        walk = self.walk
        expected = walk.expected(op)
        walk.compare(op, expected, self.answered(op))
        self.asked += 1
        looks = (TakeDump(), Count(), Load(("j00", "nobody", "j01")))
        for look in looks if self.asked % 4 == 0 else looks[:1]:  # each is a transaction of a server
            walk.compare(look, walk.expected(look), self.answered(look))

    @rule(step=st.sampled_from(BACK))
    def the_clock_runs_back(self, step: int) -> None:
        """Down to the floor at most, which the store must know."""
        self.walk.now = max(self.walk.now - step, 0)


class WithAging(Agreement):
    aging_us = 1_000_000


WALK = settings(max_examples=15, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
HUNT = settings(WALK, phases=[Phase.generate], max_examples=400, report_multiple_bugs=False, print_blob=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [Agreement, WithAging])
def test_mariadb_10_11_agrees_with_the_queue_machine(machine: type[Agreement]) -> None:
    run_state_machine_as_test(machine, settings=WALK)


BUGS = {
    "a claim takes the latest first": ("ready", "rank_a, rank_b, seq LIMIT", "rank_a, rank_b, seq DESC LIMIT"),
    "a claim forgets the fence": ("claim_start", "fence = fence + 1, ", ""),
    "a lease that ends now has not ended": ("lapsed", "held.lease_until <= $1", "held.lease_until < $1"),
    "promotion is a microsecond late": ("due", "run_at <= $2", "run_at < $2"),
    "a deadline is met a microsecond late": ("expired", "agenda_at <= $1", "agenda_at < $1"),
    "pruning is a microsecond late": ("prunes", "agenda_at <= $1", "agenda_at < $1"),
    "what is set aside is never taken back": ("job_take_back", "SET aside = 0", "SET aside = aside"),
    "a success frees no lease": ("job_settle", "lease_until = NULL, ", ""),
    "a success counts under any fence": ("job_settle", " AND fence = $2", ""),
    "a result is kept as long as its row": ("job_settle", "chore_at = $1 + ttl_us", "chore_at = $1 + keep_us"),
    "a success without a result has one to drop": ("job_settle_bare", "chore = 1", "chore = 0"),
    "held windows are pruned": ("ended", "(window_until IS NULL OR window_until <= $3)", "TRUE"),
}


@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.environ.get("TASKWEAVE_HUNT"), reason="minutes each on a server: nox -s hunts")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_in_the_sql_is_found(bug: str) -> None:
    class Planted(Agreement):
        planted = BUGS[bug]

    site = Agreement.site
    try:
        with pytest.raises(BaseException):  # noqa: B017, PT011 - an answer, a row or the check that differs
            run_state_machine_as_test(Planted, settings=HUNT)
    finally:
        site.close()
        site.stores.clear()
