"""What the hot statements of PostgreSQL read does not grow with the store: the account of each plan says so.

Plans are caught inside the functions too (auto_explain), on a store with 100,000 ready jobs, as many finished, and
thousands that run, wait or expired, of which the planner knows nothing: it never analysed them. Once the plans are made
when the tables are full; once while they are still empty, as in a worker that was started first, and kept from then on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from servers import Server

from taskweave.core.ids import SECOND
from taskweave.core.job import Spec, Verb
from taskweave.core.verbs import (
    CancelJobs,
    Enqueue,
    Exchange,
    Lease,
    LeaseProgress,
    Load,
    Maintain,
    Op,
    Progress,
    Renew,
    Settlement,
)

pytest.importorskip("asyncpg")

from taskweave.stores._postgres.address import parsed
from taskweave.stores._postgres.opening import Settings, open_session
from taskweave.stores._postgres.session import Session

JOBS = 100_000
SOME = 5_000
WANT = 50
LEASE_US = 30 * SECOND
READ_MAX = 8 * WANT  # rows that one scan may look at: a claim looks at so many of each task that waits
OURS = {"meta", "pause", "claim", "job"}
SMALL = {"meta", "pause"}  # one row, and the paused queues
TASKS = ("t0", "t1", "t2", "t3", "t4", "t5")
ALONE = ("t0",)

FILL = f"""
ALTER TABLE taskweave.job SET (autovacuum_enabled = off);
INSERT INTO taskweave.job (
    rank_b, run_at, created_at, due_at, ttl_us, keep_us, rank_a, state, fragile, id, queue, task, payload, fence,
    attempt, claim, lease_until, started_at, finished_at, chore, chore_at, prune_at, expires_at
)
SELECT
    n, n, 0, n, 3600000000, 604800000000, 0, state, 0, state || '-' || n, 'q', 't' || n % 6, '', 1, 1,
    CASE state WHEN 2 THEN 1 END, CASE state WHEN 2 THEN far END, CASE WHEN state > 1 THEN 1 END,
    CASE WHEN state > 2 THEN 1 END, CASE WHEN state > 2 THEN 1 END, CASE WHEN state > 2 THEN far END,
    CASE WHEN state > 2 THEN far END, CASE WHEN state < 2 AND n % 20 = 0 THEN far END
FROM
    (VALUES (1, {JOBS}), (3, {JOBS}), (0, {SOME}), (2, {SOME}), (5, {SOME})) AS kind (state, jobs),
    generate_series(1, jobs) AS n,
    LATERAL (SELECT 4000000000000000 + n AS far) AS later;
UPDATE taskweave.job SET run_at = 4000000000000000 + run_at WHERE state = 0;
INSERT INTO taskweave.claim (number, until, claim_id, member, seqs)
SELECT 1000000 + n, 4000000000000000, 'old-' || n, 'm', '[]' FROM generate_series(1, {SOME}) AS n;
"""


class Explained:
    """A session of one connection whose plans are told, statement by statement."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.plans: list[dict[str, Any]] = []

    async def begin(self) -> None:
        connection: Any = await self.session.pool.take()
        await connection.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;"
            "SET auto_explain.log_timing = off; SET auto_explain.log_nested_statements = on;"
            "SET auto_explain.log_format = json; SET client_min_messages = log"
        )
        connection.add_log_listener(lambda _, message: self._told(message.message))
        self.session.pool.give_back(connection)

    def _told(self, message: str) -> None:
        _, found, plan = message.partition("plan:\n")
        if found:
            self.plans.append(json.loads(plan))

    async def asked(self, op: Op[Any]) -> Any:
        """The answer; its plans are those that are left."""
        self.plans.clear()
        answer = await self.session.apply(op, None)
        assert self.plans, "no plan was told"
        return answer

    def scans(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for plan in self.plans:
            for node in nodes(plan["Plan"]):
                if node.get("Relation Name") in OURS:  # the driver asks the catalogue, once for each connection
                    yield plan["Query Text"], node


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from nodes(inner)


def read_by(node: dict[str, Any]) -> int:
    """Rows that this scan looked at."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


def judge(explained: Explained) -> list[str]:
    """The scans that read too much, or could."""
    wrong: list[str] = []
    for sql, node in explained.scans():
        where = f"{node['Node Type']} of {node['Relation Name']} in: {' '.join(sql.split())[:200]}"
        if node["Node Type"] == "ModifyTable":
            continue
        if node["Relation Name"] not in SMALL and not node["Node Type"].startswith("Index"):
            wrong.append(f"no index: {where}")
        if read_by(node) > READ_MAX:
            wrong.append(f"{read_by(node)} rows read: {where}")
    return wrong


async def work(explained: Explained, tasks: tuple[str, ...], *, check: bool) -> list[str]:
    """What producers and workers do all the time, once."""
    wrong: list[str] = []

    async def ask(op: Op[Any]) -> Any:
        answer = await explained.asked(op)
        wrong.extend(f"{op.name}: {problem}" for problem in judge(explained))
        return answer

    new = [Spec(str(uuid4()), tasks[n % len(tasks)], "q", b"1") for n in range(WANT)]
    await ask(Enqueue(tuple(new)))
    await ask(Enqueue(tuple(new[:1])))
    claimed = (await ask(exchange(WANT, tasks))).claimed
    assert len(claimed) == WANT
    plain, rest = claimed[: WANT // 2], claimed[WANT // 2 :]
    ends = tuple([Settlement(job.id, job.fence, Verb.SUCCEED, b"1") for job in plain])
    again = (await ask(exchange(WANT, tasks, ends))).claimed
    leases = tuple([Lease(job.id, job.fence) for job in (*rest, *again)])
    await ask(Renew("m", leases, LEASE_US, (LeaseProgress(leases[0].id, leases[0].fence, Progress(0.5)),)))
    await ask(CancelJobs(tuple([lease.id for lease in leases[:2]])))
    await ask(Load(tuple([job.id for job in claimed])))
    failed = tuple([Settlement(lease.id, lease.fence, Verb.FAIL) for lease in leases])
    await ask(exchange(0, tasks, failed))
    await ask(exchange(0, ()))
    await ask(Maintain(LEASE_US, WANT))
    return wrong if check else []


def exchange(want: int, tasks: tuple[str, ...], ends: tuple[Settlement, ...] = ()) -> Exchange:
    return Exchange("m", str(uuid4()), want, ("q", "r"), tasks, LEASE_US, ends)


@asynccontextmanager
async def namespace(server: Server) -> AsyncIterator[Settings]:
    """A namespace that is there; gone afterwards."""
    settings = Settings(parsed(server.url(f"plans_{uuid4().hex[:12]}")))
    session = await open_session(settings)
    try:
        yield settings
    finally:
        await session.drop()
        await session.pool.close()


async def fill(server: Server, settings: Settings) -> None:
    session = await open_session(settings)
    connection = await session.pool.take()
    schema = f'"{settings.address.namespace}"'
    await connection.execute("SET statement_timeout = 0")
    await connection.execute(FILL.replace("taskweave.", f"{schema}."))
    await session.pool.close()


async def explained_session(settings: Settings) -> Explained:
    explained = Explained(await open_session(settings))
    await explained.begin()
    return explained


@pytest.mark.timeout(300)
@pytest.mark.proves(143)
@pytest.mark.parametrize("tasks", [ALONE, TASKS], ids=["one task", "many tasks"])
def test_what_is_read_does_not_grow_with_the_store(
    shared_server: Callable[[str], Server], tasks: tuple[str, ...]
) -> None:
    server = shared_server("postgres")

    async def both() -> tuple[list[str], list[str]]:
        async with namespace(server) as settings:
            early = await explained_session(settings)
            for _ in range(7):  # more often than a plan is made anew for its parameters
                await work(early, tasks, check=False)
            await fill(server, settings)
            late = await explained_session(settings)
            found = [await work(each, tasks, check=True) for each in (early, late)]
            await early.session.pool.close()
            await late.session.pool.close()
            return found[0], found[1]

    made_when_empty, made_when_full = asyncio.run(both())
    assert made_when_empty == []
    assert made_when_full == []


@pytest.mark.timeout(300)
@pytest.mark.proves(143)
@pytest.mark.parametrize("index", ["job_ready", "job_due", "job_lease", "job_chore", "job_expiry", "claim_until"])
def test_without_its_index_a_plan_is_found_out(shared_server: Callable[[str], Server], index: str) -> None:
    server = shared_server("postgres")

    async def hurt() -> list[str]:
        async with namespace(server) as settings:
            await fill(server, settings)
            explained = await explained_session(settings)
            connection = await explained.session.pool.take()
            await connection.execute(f'DROP INDEX "{settings.address.namespace}".{index}')
            explained.session.pool.give_back(connection)
            found = await work(explained, ALONE, check=True)
            await explained.session.pool.close()
            return found

    assert asyncio.run(hurt())
