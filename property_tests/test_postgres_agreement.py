"""PostgreSQL walks beside the queue machine: the same ops at the same instants give the same answers and the same rows.

The walk is that of SQLite (test_sqlite_agreement). What producers and workers do all the time is written a second time,
in functions of the server, so bugs are planted there and in the statements, and each must be found. A walk ends with
the store's own check of its rows (I26). Walks share a schema, emptied in between, since making one is dear.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from server_fixtures import required

from taskweave.core.job import Verb
from taskweave.core.verbs import Count, Exchange, Export, Load, Maintain, Op, Settlement, TakeDump
from taskweave.exceptions import TaskweaveError
from taskweave.testing import Outcome, check_store

pytest.importorskip("asyncpg")

from taskweave.stores._postgres import statements as statements_module
from taskweave.stores._postgres.address import parsed
from taskweave.stores._postgres.opening import Settings, open_session
from taskweave.stores._postgres.session import Session
from taskweave.stores.postgres import PostgresTaskStore


def _neighbour(name: str) -> ModuleType:
    """The module beside this one: pytest imports each test file alone, by its path."""
    spec = importlib.util.spec_from_file_location(f"{name}_beside_postgres", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


walks: Any = _neighbour("test_sqlite_agreement")
BACK = [500_000, 2_000_000, 6_000_000]
numbers = itertools.count()


class Place:
    """A namespace on the server of this process, driven from synchronous code."""

    def __init__(self, loop: asyncio.AbstractEventLoop, aging_us: int | None = None) -> None:
        self.loop = loop
        self.namespace = f"walk_{os.getpid()}_{next(numbers)}"
        address = parsed(servers.shared("postgres").url(self.namespace))
        self.session: Session = self.run(open_session(Settings(address, aging_us=aging_us)))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def empty(self) -> None:
        """As it was made: no job, no claim, no pause, and a clock without a floor."""
        schema = f'"{self.namespace}"'

        async def clear() -> None:
            connection = await self.session.pool.take()
            tables = ", ".join(f"{schema}.{name}" for name in ("job", "claim", "pause"))
            await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY; UPDATE {schema}.meta SET floor = 0")
            self.session.pool.give_back(connection)

        self.run(clear())

    def end(self) -> None:
        self.run(self.session.drop())
        self.run(self.session.pool.close())


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    required("postgres")
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Agreement(walks.Agreement):  # type: ignore[misc]
    place: Place

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.walk = walks.Walk(self.aging_us)
        self.place.empty()

    def teardown(self) -> None:
        found = self.place.run(self.place.session.check())
        assert found == [], "I26: a column that does not follow from the job's state"

    def answered(self, op: Op[Any]) -> Any:
        try:
            return self.place.run(self.place.session.apply(op, self.walk.now))
        except TaskweaveError as error:
            return type(error)

    def both(self, op: Op[Any]) -> None:
        walk = self.walk
        expected = walk.expected(op)
        walk.compare(op, expected, self.answered(op))
        for look in (TakeDump(), Count(), Load(("j00", "nobody", "j01"))):
            walk.compare(look, walk.expected(look), self.answered(look))

    @rule(step=st.sampled_from(BACK))
    def the_clock_runs_back(self, step: int) -> None:
        """Down to the floor at most, which the store must know."""
        self.walk.now = max(self.walk.now - step, 0)

    @rule(data=st.data(), off=st.sampled_from([0, 0, -1, 1, 2]))
    def ends_plainly(self, data: st.DataObject, off: int) -> None:
        """Plain successes, which are written by the function, under the right fence and under others."""
        walk = self.walk
        walk.works += 1
        chosen = {lease.id: lease for lease in data.draw(walks.some(walk.handed, 3))}
        result = data.draw(st.sampled_from([b"1", None]))
        ends = [Settlement(lease.id, lease.fence + off, Verb.SUCCEED, result) for lease in chosen.values()]
        self.both(Exchange("m1", f"e{walk.works}", 2, ("a",), tuple(walks.TASKS), walks.LEASE_US, tuple(ends)))

    @rule(fragile=st.sampled_from([0, 1, 2]))
    def workers_vanish(self, fragile: int) -> None:
        """What they ran is lost, and the next loss of some of it would be their last."""
        walk = self.walk
        walk.works += 1
        self.both(Exchange("m1", f"l{walk.works}", 5, ("a", "b"), tuple(walks.TASKS), walks.LEASE_US, fragile=9))
        walk.now += walks.LEASE_US
        self.both(Maintain(walks.LEASE_US))
        self.both(Exchange("m1", f"f{walk.works}", 3, ("a",), ("x", "z"), walks.LEASE_US, fragile=fragile))


class WithAging(Agreement):
    aging_us = 1_000_000


WALK = settings(walks.WALK, max_examples=25)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [Agreement, WithAging])
def test_postgres_agrees_with_the_queue_machine(machine: type[Agreement], loop: asyncio.AbstractEventLoop) -> None:
    machine.place = Place(loop, machine.aging_us)
    run_state_machine_as_test(machine, settings=WALK)
    machine.place.end()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_real_store_agrees_on_each_runtime(
    loop: asyncio.AbstractEventLoop, backend: str, data: st.DataObject
) -> None:
    async def walk_through() -> None:
        walk = walks.Walk()
        url = servers.shared("postgres").url(f"real_{os.getpid()}_{next(numbers)}")
        async with PostgresTaskStore(url) as store, store.another() as second:
            for step in range(40):
                walk.now += data.draw(st.sampled_from(walks.STEPS))
                sent = [st.sampled_from(walk.sent)] if walk.sent else []
                moves = [st.just(Export()), walks.restores(walk.seen)]
                asking = (walks.operations(), walks.exchanges(walk.handed), walks.renewals(walk.handed))
                op = data.draw(st.one_of(*asking, *moves, *sent))
                asked = second if step % 3 == 0 else store
                for each in (op, TakeDump()):
                    expected = walk.expected(each)
                    try:
                        answer = await asked.apply(each, at=walk.now)
                    except TaskweaveError as error:
                        answer = type(error)
                    walk.compare(each, expected, answer)
            assert await store.check() == []
            await store.drop()

    anyio.run(walk_through, backend=backend)


# --- planted bugs -------------------------------------------------------------------------------------------------

HOT = "0002_hot_path"
BUGS: dict[str, tuple[str, str, str]] = {  # the file, the SQL that is there, and the mistake in its place
    "claims_without_a_new_fence": (HOT, "fence = job.fence + 1", "fence = job.fence"),
    "claims_from_paused_queues": (
        HOT,
        "WHERE NOT EXISTS (SELECT FROM taskweave.pause",
        "WHERE NOT NOT EXISTS (SELECT FROM taskweave.pause",
    ),
    "claims_in_the_order_of_arrival": (
        HOT,
        "array_agg(held.seq ORDER BY held.rank_a, held.rank_b, held.seq),\n                    array_agg",
        "array_agg(held.seq ORDER BY held.seq),\n                    array_agg",
    ),
    "looks_at_one_task_alone": (HOT, "IF cardinality(v_tasks) > 1 OR (", "IF (cardinality(v_tasks) > 9) OR ("),
    "claims_what_has_expired": (HOT, "FILTER (WHERE held.expires_at <= v_now)", "FILTER (WHERE held.expires_at < 0)"),
    "never_takes_fragile_jobs": (HOT, "(v_fragile > 0 AND EXISTS (", "(v_fragile > 99 AND EXISTS ("),
    "keeps_expired_jobs_aside": (HOT, "AND job.expires_at > v_now;", "AND job.expires_at > v_now + 1e15;"),
    "succeeds_under_any_fence": (HOT, "job.fence = ended.fence AND", ""),
    "succeeds_without_its_token": (HOT, "settled_digest = ended.digest", "settled_digest = 0"),
    "refuses_a_repeat": (HOT, "job.settled_digest = given.digest", "job.settled_digest = 0"),
    "keeps_results_for_ever": (
        HOT,
        "greatest(v_now + job.keep_us, job.window_until) ELSE v_now + job.ttl_us",
        "greatest(v_now + job.keep_us, job.window_until) ELSE v_now + job.keep_us",
    ),
    "lets_go_of_a_window": (HOT, "CASE WHEN job.window_until > v_now THEN job.unique_key END", "NULL"),
    "promotes_a_moment_late": (HOT, "AND job.run_at <= v_now LIMIT 1", "AND job.run_at < v_now LIMIT 1"),
    "answers_a_repeated_claim_anew": (HOT, "p_tasks := '{}';", "NULL;"),
    "ignores_the_floor": (
        HOT,
        "greatest(coalesce(p_at, round(extract(epoch FROM clock_timestamp()) * 1000000)::bigint), meta.floor),\n",
        "coalesce(p_at, 0),\n",
    ),
    "ignores_priorities": (HOT, "CASE WHEN v_aging IS NULL THEN -priority ELSE 0 END", "0"),
    "forgets_deadlines": (HOT, "v_now + expiry", "NULL"),
    "counts_what_was_there": (HOT, "RETURN v_known;", "RETURN '{}';"),
    "tells_nobody_to_stop": (HOT, "job.cancel IS NOT NULL AND job.claim > 0", "job.claim < 0"),
    "reaps_a_moment_late": ("lapsed", "lease_until <= $1", "lease_until < $1"),
    "finds_no_holder_of_a_key": ("job_by_key", "unique_key = $1", "unique_key = $1 || '?'"),
    "prunes_a_moment_early": ("prunes", "chore_at <= $1", "chore_at <= $1 + 1000000"),
    "forgets_progress": ("job_save", "progress = $10", "progress = left($10, 0)"),
}


class Found(Exception):
    """A check has found the bug; the others need not be asked."""


def stop_at_a_problem(outcome: Outcome) -> None:
    if outcome.problem is not None:
        raise Found(outcome.name)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not os.environ.get("TASKWEAVE_HUNT"), reason="minutes each on a server: nox -s hunts")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the checks that every store has to pass: they walk into the corners that a random walk finds late."""
    file, there, mistake = BUGS[bug]
    migrations, texts = dict(statements_module._MIGRATIONS), dict(statements_module._TEXTS)
    changed = migrations if file in migrations else texts
    assert changed[file].count(there) == 1, "the bug must be planted"
    changed[file] = changed[file].replace(there, mistake)
    monkeypatch.setattr(statements_module, "_MIGRATIONS", list(migrations.items()))
    monkeypatch.setattr(statements_module, "_TEXTS", texts)

    @asynccontextmanager
    async def make(namespace: str) -> AsyncIterator[PostgresTaskStore]:
        url = servers.shared("postgres").url(f"bug_{os.getpid()}_{next(numbers)}")
        async with PostgresTaskStore(url) as store:
            try:
                yield store
            finally:
                with anyio.CancelScope(shield=True):
                    await store.drop()

    found: list[str] = []

    async def judged() -> None:
        try:
            await check_store(make, level="basic", report=stop_at_a_problem)
        except* Found as stopped:
            found.extend(str(each) for each in stopped.exceptions)

    anyio.run(judged)
    assert found
