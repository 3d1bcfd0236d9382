"""Redis walks beside the queue machine: the same ops at the same instants give the same answers and the same rows.

The walk is SQLite's (test_sqlite_agreement); here the rules of the queue are written a second time, in Lua, so the
planted bugs are in the Lua, and each must be found by the walk, by the conformance suite, or by both. Every walk has a
namespace of its own, and ends with the store's own check of its indexes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from hashlib import sha1
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

from taskweave.core.job import Job, Verb
from taskweave.core.verbs import (
    Count,
    Enqueue,
    Exchange,
    Export,
    Lease,
    Load,
    Maintain,
    Op,
    Renew,
    RetryJobs,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import TaskweaveError

pytest.importorskip("redis")

from taskweave.stores._redis.address import address_of
from taskweave.stores._redis.check import problems
from taskweave.stores._redis.dataset import bring_up, drop_some
from taskweave.stores._redis.link import Link
from taskweave.stores._redis.scripts import SCRIPTS, Script
from taskweave.stores._redis.verbs import Dataset, apply
from taskweave.stores.redis import RedisTaskStore
from taskweave.testing import check_store


def _neighbour(name: str) -> ModuleType:
    """The module beside this one: pytest imports each test file alone, by its path."""
    spec = importlib.util.spec_from_file_location(f"{name}_of_sqlite", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


walks: Any = _neighbour("test_sqlite_agreement")
BACK = [500_000, 2_000_000, 6_000_000]
numbers = itertools.count()


class Server:
    """The server of this process, driven from synchronous code."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def dataset(self, aging_us: int | None) -> Dataset:
        dataset = Dataset(Link(address_of(self.url, f"walk_{next(numbers)}")), 1 << 20)
        dataset.made = self.run(bring_up(dataset, True, aging_us))
        return dataset

    def end(self, dataset: Dataset) -> None:
        async def drop() -> None:
            cursor = b""
            while cursor != b"0":
                cursor = await drop_some(dataset, cursor or 0)
            await dataset.link.close()

        self.run(drop())


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Server]:
    required("redis")
    made = Server(servers.shared("redis").url())
    Agreement.server = made
    yield made
    made.loop.close()


class Agreement(walks.Agreement):  # type: ignore[misc]
    server: Server

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.walk = walks.Walk(self.aging_us)
        self.dataset = self.server.dataset(self.aging_us)
        self.asked = 0

    def teardown(self) -> None:
        try:
            assert self.server.run(problems(self.dataset)) == [], "I26: an index that does not follow from the rows"
        finally:
            self.server.end(self.dataset)

    def answered(self, op: Op[Any]) -> Any:
        try:
            return self.server.run(apply(self.dataset, op, self.walk.now))
        except TaskweaveError as error:
            return type(error)

    def both(self, op: Op[Any]) -> None:
        walk = self.walk
        expected = walk.expected(op)
        walk.compare(op, expected, self.answered(op))
        self.asked += 1
        looks = (TakeDump(), Count(), Load(("j00", "nobody", "j01")))
        for look in looks if self.asked % 4 == 0 else looks[:1]:  # each is a call of a server
            walk.compare(look, walk.expected(look), self.answered(look))

    @rule(step=st.sampled_from(BACK))
    def the_clock_runs_back(self, step: int) -> None:
        """Down to the floor at most, which the store must know."""
        self.walk.now = max(self.walk.now - step, 0)

    @rule(data=st.data(), off=st.sampled_from([0, 0, -1, 1, 2]))
    def ends_plainly(self, data: st.DataObject, off: int) -> None:
        """Plain successes, which take a short way in Lua, under the right fence and under others."""
        walk = self.walk
        walk.works += 1
        ends = [
            Settlement(lease.id, lease.fence + off, Verb.SUCCEED, b"1")
            for lease in data.draw(walks.some(walk.handed, 3))
        ]
        self.both(Exchange("m1", f"e{walk.works}", 0, ("a",), ("x",), walks.LEASE_US, tuple(ends)))

    # --- edges that chance alone seldom meets ---

    @rule(off=st.sampled_from([-1, 0, 1]), renews=st.booleans())
    def at_the_end_of_a_lease(self, off: int, renews: bool) -> None:
        walk = self.walk
        ends = [(job.life.hold.lease_until, job) for job in self.jobs() if job.life.hold is not None]
        if ends:
            until, job = min(ends, key=lambda end: end[0])
            walk.now = max(walk.now, until + off)
            held = (Lease(job.id, job.life.fence),)
            self.both(Renew("m1", held, walks.LEASE_US) if renews else Maintain(walks.LEASE_US))

    @rule(kind=st.sampled_from([17, 18]), off=st.sampled_from([-1, 0, 1]), data=st.data())
    def at_the_end_of_a_window(self, kind: int, off: int, data: st.DataObject) -> None:
        for _ in range(2):
            self.both(Enqueue((walks.spec(data.draw(st.sampled_from(walks.IDS)), kind, "a"),)))
            self.walk.now += 2_000_000 + off

    @rule(data=st.data())
    def retries_what_ended(self, data: st.DataObject) -> None:
        ended = [job.id for job in self.jobs() if job.finished]
        if ended:
            self.both(RetryJobs((data.draw(st.sampled_from(ended)),), "me"))

    def jobs(self) -> tuple[Job, ...]:
        return self.walk.expected(TakeDump()).jobs  # type: ignore[no-any-return]


class WithAging(Agreement):
    aging_us = 1_000_000


WALK = settings(walks.WALK, max_examples=40)
HUNT = settings(walks.HUNT, max_examples=600)


@pytest.mark.parametrize("machine", [Agreement, WithAging])
def test_redis_agrees_with_the_queue_machine(machine: type[Agreement]) -> None:
    run_state_machine_as_test(machine, settings=WALK)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_real_store_agrees_on_each_runtime(server: Server, backend: str, data: st.DataObject) -> None:
    async def walk_through() -> None:
        walk = walks.Walk()
        async with (
            RedisTaskStore(server.url, namespace=f"real_{next(numbers)}") as store,
            store.another() as second,
        ):
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

BUGS: dict[str, tuple[str, str, str]] = {  # the verb, the Lua that is there, and the mistake in its place
    "settles_under_any_fence": (
        "exchange",
        "if row.state ~= 2 or int(row.fence) ~= s.fence then",
        "if row.state ~= 2 then",
    ),
    "succeeds_under_any_fence": ("exchange", "v[3], '2 0 ' .. fence .. ' '", "v[3], '2 0 '"),
    "succeeds_without_its_token": ("exchange", "'z', fence .. ' ' .. digest, 'e'", "'e'"),
    "does_not_free_a_unique_key": (
        "exchange",
        "  enter_finished(row, now)\n  if not holds_key(row) then free_key(row) end",
        "  enter_finished(row, now)",
    ),
    "does_not_give_the_attempt_back": (
        "exchange",
        "s.verb == 'retry' and row.attempt or row.attempt - 1",
        "row.attempt",
    ),
    "renews_a_moment_too_late": ("renew", "now < tonumber(ends_at)", "now <= tonumber(ends_at)"),
    "reaps_a_moment_too_late": (
        "maintain",
        "call('ZRANGEBYSCORE', key, '-inf', int(now - after)",
        "call('ZRANGEBYSCORE', key, '-inf', '(' .. int(now - after)",
    ),
    "settles_without_what_it_spawns": ("exchange", "if s.refused then return false end", ""),
    "extends_a_repeated_claim": (
        "exchange",
        "    local payload = call('HGET', row.key, 'p')",
        "    put(P .. 'leases', row.tag, now + lease_us)\n    local payload = call('HGET', row.key, 'p')",
    ),
    "ignores_the_floor": ("exchange", "if now < floor then now = floor end", ""),
    "does_not_count_lost_workers": ("maintain", "row.lost = row.lost + 1", ""),
    "claims_what_has_expired": (
        "exchange",
        "if tonumber(expires) <= now then",
        "if tonumber(expires) < now - 1e6 then",
    ),
    "claims_from_paused_queues": (
        "exchange",
        "if call('SISMEMBER', P .. 'paused', queue) == 0 then",
        "if queue then",
    ),
    "claims_in_the_order_of_time": ("exchange", "rank = aging and 0 or -priority", "rank = 0"),
    "takes_lapsed_windows_for_held": (
        "enqueue",
        "if kind.within then return now < row.created + kind.within end",
        "if kind.within then return true end",
    ),
    "keeps_a_deadline_after_a_retry": ("retry", "row.fence + 1, nil", "row.fence + 1, row.expires"),
    "keeps_results_for_ever": ("maintain", "of_classes(function(_, ttl) return ttl end)", "{}"),
    "counts_a_deleted_job": (
        "delete",
        "  local state, tag, queue = row.state, row.tag, row.kind.queue\n  count(state, queue, -1)",
        "  local state, tag, queue = row.state, row.tag, row.kind.queue",
    ),
}


# Those that the walk finds soon. It has found all of them, but some only after minutes: the checks below need no luck.
HUNTED = (
    "settles_under_any_fence",
    "succeeds_without_its_token",
    "does_not_free_a_unique_key",
    "does_not_give_the_attempt_back",
    "renews_a_moment_too_late",
    "settles_without_what_it_spawns",
    "extends_a_repeated_claim",
    "ignores_the_floor",
    "does_not_count_lost_workers",
)
FOUND_BY = {  # the check of the conformance suite that each bug must fail
    "settles_under_any_fence": "an_owner_may_not_settle_what_another_runs",
    "succeeds_under_any_fence": "succeed_by_an_earlier_fence_is_refused",
    "succeeds_without_its_token": "succeed_sent_again_is_done_already",
    "does_not_give_the_attempt_back": "release_ends_the_attempt",
    "renews_a_moment_too_late": "no_lease_is_renewed_at_its_end",
    "reaps_a_moment_too_late": "a_lease_is_reaped_at_its_end",
    "settles_without_what_it_spawns": "a_bad_child_refuses_the_end_and_all_children",
    "extends_a_repeated_claim": "a_repeated_claim_does_not_extend_its_leases",
    "ignores_the_floor": "store_time_never_runs_below_its_floor",
    "does_not_count_lost_workers": "the_last_loss_is_poison",
    "claims_what_has_expired": "a_claim_skips_what_has_expired",
    "claims_from_paused_queues": "takes_no_job_of_a_paused_queue",
    "claims_in_the_order_of_time": "takes_the_larger_priority_first",
    "takes_lapsed_windows_for_held": "a_window_ends_at_its_instant",
    "keeps_a_deadline_after_a_retry": "an_operators_retry_starts_afresh",
    "keeps_results_for_ever": "a_result_is_dropped_at_its_instant",
    "counts_a_deleted_job": "a_queue_without_jobs_is_not_counted",
}


def plant(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verb, there, mistake = BUGS[bug]
    text = SCRIPTS[verb].text
    assert text.count(there) == 1, "the bug must be planted"
    wrong = text.replace(there, mistake)
    monkeypatch.setitem(SCRIPTS, verb, Script(verb, wrong, sha1(wrong.encode(), usedforsecurity=False).hexdigest()))


@pytest.mark.timeout(300)
@pytest.mark.skipif(not os.environ.get("TASKWEAVE_HUNT"), reason="minutes each on a server: nox -s hunts")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", HUNTED)
def test_the_walk_finds_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(bug, monkeypatch)
    with pytest.raises((AssertionError, KeyError, IndexError)):
        run_state_machine_as_test(Agreement, settings=HUNT)


@pytest.mark.parametrize("bug", FOUND_BY)
def test_the_suite_finds_a_planted_bug(server: Server, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def make(namespace: str) -> AsyncIterator[RedisTaskStore]:
        async with RedisTaskStore(server.url, namespace=namespace) as store:
            yield store
            await store.drop()

    async def failed() -> set[str]:
        certificate = await check_store(make, level="basic", only=lambda name: name == FOUND_BY[bug])
        return {outcome.name for outcome in certificate.outcomes if outcome.problem}

    assert FOUND_BY[bug] not in anyio.run(failed), "the check fails without the bug"
    plant(bug, monkeypatch)
    assert FOUND_BY[bug] in anyio.run(failed)
