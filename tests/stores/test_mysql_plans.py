"""Every hot statement of the MySQL store goes by an index on MariaDB 10.11, and locks no more than it takes.

EXPLAIN tells of tables read whole and of sorting; what is sorted all the same is named with its reason. A locking read
that sorts would lock every candidate, so those are also counted in locks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import anyio
import pytest
from servers import Server

from taskweave.core.job import Spec
from taskweave.core.verbs import Enqueue, Exchange

pytest.importorskip("asyncmy")

from taskweave.stores._mysql.link import MySQLLink
from taskweave.stores._mysql.statements import Statement, statements
from taskweave.stores.mysql import MySQLTaskStore

JOBS = 100_000
BATCH = 5_000
NOW = 4_000_000_000_000_000

# What reads everything, on purpose, and never while a job waits for it: listings, counts, checks.
COLD = {"check_claims", "check_columns", "check_indexes", "check_rows", "check_triggers", "count", "dump", "facts"}
# What is no query of the store's tables, or has no plan.
OTHER = {"clock", "drop", "history_length", "lock_schema", "roles", "tables", "unlock_schema"}
# What sorts, and why that locks nothing and is small: see the statement.
SORTS = {
    "cancels": "the jobs that were asked to stop",
    "ended": "an operator's prune of successes",
    "find_ended": "dead letters, without locks",
    "find_running": "what runs, without locks",
    "jobs_by_id": "the op's own list of ids",
    "lapsed": "what has lapsed, without locks",
    "late_prunes": "a backlog, without locks",
    "purge_aside": "an operator's purge, without locks",
    "purge_ready": "an operator's purge, without locks",
    "settle_load": "the op's own list of ids",
}
GIVEN: dict[str, tuple[Any, ...]] = {
    "cancels": ("m",),
    "chores": (0, NOW, 10),
    "claim_by_id": ("c",),
    "claim_leases": ([1, 2], 1),
    "claims_over": (NOW, 10),
    "due": ("default", NOW, 10),
    "due_queues": ("",),
    "ended": (4, NOW, NOW, 10),
    "expired": (NOW, 10),
    "export": (5, 10),
    "export_sizes": (5, 10),
    "find": (50_000, [0, 1, 2, 3, 4, 5, 6, 7], None, None, 10),
    "find_ended": (50_000, [4, 5], None, None, 10),
    "find_running": (50_000, [2], None, None, 10),
    "job_by_key": ("k",),
    "job_ids_known": (["00000001", "00000002"],),
    "jobs_by_id": (["00000001", "00000002"],),
    "jobs_by_seq": ([1, 2],),
    "lapsed": (NOW, 10),
    "late_prunes": (NOW, 10),
    "load": (["00000001", "00000002"],),
    "meta_read": (),
    "next_due": (["default", "other"],),
    "paused": (),
    "prunes": (NOW, 10),
    "purge_aside": ("default", 10),
    "purge_ready": ("default", 10),
    "purge_scheduled": ("default", 10),
    "ready": ("default", "noop", 0, [0], 10),
    "ready_tasks": ("default", ""),
    "rerank": (5, 10),
    "settle_load": (["00000001", "00000002"],),
    "version_read": (),
}


class Site:
    """A namespace with a hundred thousand ready jobs, half as many scheduled ones, and one connection of its own."""

    def __init__(self, server: Server) -> None:
        from anyio.from_thread import start_blocking_portal

        self.context = start_blocking_portal()
        self.portal = self.context.__enter__()
        self.namespace = f"t_{uuid4().hex[:12]}"
        self.store = MySQLTaskStore(server.url(), namespace=self.namespace)
        self.portal.call(self._fill)

    async def _fill(self) -> None:
        await self.store.__aenter__()
        assert self.store._opened is not None
        self.session = self.store._opened.session
        self.connection = await self.session.pool.take()
        for start in range(0, JOBS, BATCH):
            specs = [Spec(f"{number:08}", "noop", "default", b"[]") for number in range(start, start + BATCH)]
            await self.store.apply(Enqueue(tuple(specs)))
        late = [Spec(f"late{number:06}", "noop", "default", b"[]", delay_us=10**12 + number) for number in range(BATCH)]
        await self.store.apply(Enqueue(tuple(late)))
        await self.store.apply(Exchange("m", "running", 200, ("default",), ("noop",), 10**10))
        await self.run("ANALYZE TABLE {}_job")

    def close(self) -> None:
        async def end() -> None:
            self.session.pool.give_back(self.connection)
            await self.store.drop()
            await self.store.__aexit__(None, None, None)

        self.portal.call(end)
        self.context.__exit__(None, None, None)

    async def run(self, sql: str) -> Any:
        return await MySQLLink(self.connection, {}).run(sql.format(self.namespace).encode())

    def ask(self, sql: str) -> Any:
        return self.portal.call(self.run, sql)

    def texts(self, name: str, *given: Any) -> list[str]:
        link = MySQLLink(self.connection, self.session.statements)
        return [text.decode() for text in self.session.statements[name].texts(given, link.literal)]

    def plan(self, name: str, *given: Any) -> list[dict[str, Any]]:
        (text,) = self.texts(name, *given)
        names = ("id", "select_type", "table", "type", "possible_keys", "key", "key_len", "ref", "rows", "extra")
        rows = self.ask("EXPLAIN " + text.replace("{", "{{").replace("}", "}}"))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def counted(self, name: str, *given: Any) -> tuple[int, int]:
        """How many entries of indexes and rows this reads, and how many locks it has when it is done."""
        (text,) = self.texts(name, *given)
        reads = "SHOW SESSION STATUS LIKE 'Handler_read%'"
        self.ask("START TRANSACTION")
        before = sum(int(number) for _, number in self.ask(reads))
        self.ask(text.replace("{", "{{").replace("}", "}}"))
        after = sum(int(number) for _, number in self.ask(reads))
        self.ask("DO sleep(0.15)")  # what the next one shows is kept by the server for a tenth of a second
        locks = self.ask(
            "SELECT coalesce(max(trx_rows_locked), 0) FROM information_schema.innodb_trx "
            "WHERE trx_mysql_thread_id = connection_id()"
        )
        self.ask("ROLLBACK")
        return after - before, int(locks[0][0])


@pytest.fixture(scope="module")
def site(shared_server: Callable[[str], Server]) -> Iterator[Site]:
    made = Site(shared_server("mariadb"))
    yield made
    made.close()


def reads(statement: Statement) -> bool:
    first = statement.clauses[0][0]
    return isinstance(first, bytes) and first.lstrip().startswith(b"SELECT")


def test_every_statement_that_reads_is_explained_or_excused() -> None:
    named = {name for name, statement in statements("t").items() if reads(statement)}
    assert named - COLD - OTHER == GIVEN.keys()


@pytest.mark.proves(143)
@pytest.mark.parametrize("name", sorted(GIVEN))
def test_hot_statements_search_an_index_and_sort_nothing_large(site: Site, name: str) -> None:
    for step in site.plan(name, *GIVEN[name]):
        extra, table = str(step["extra"]), str(step["table"])
        if table in (f"{site.namespace}_job", "job", "held", "claim", f"{site.namespace}_claim"):
            assert step["type"] not in ("ALL", "index"), f"{name} reads a table or an index whole: {step}"
            assert step["key"] is not None, f"{name} uses no index: {step}"
        if "filesort" in extra or "temporary" in extra:
            assert name in SORTS, f"{name} sorts: {step}"


WRITTEN: dict[str, tuple[Any, ...]] = {
    "claim_close": (),
    "claim_delete": (1,),
    "claim_start": ("[1]", NOW, NOW, [1, 2]),
    "claim_until": (NOW, 1),
    "job_delete": ([1, 2],),
    "job_free_key": ("k",),
    "job_promote": ([1, 2],),
    "job_renew": (NOW, [1, 2]),
    "job_set_aside": ([1, 2],),
    "job_settle": (NOW, 1, 2, ["00000001", "00000002"], b"null"),
    "job_settle_bare": (NOW, 1, 2, ["00000001", "00000002"]),
    "job_take_back": (["default"], NOW),
}


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_writes_go_by_an_index_too(site: Site, name: str) -> None:
    for text in site.texts(name, *WRITTEN[name]):
        for step in site.ask("EXPLAIN " + text.replace("{", "{{").replace("}", "}}")):
            _, _, table, kind, _, key, *_, extra = step
            if table is None or "derived" in str(table):
                continue
            assert kind not in ("ALL", "index"), f"{name} reads a table or an index whole: {step}"
            assert key is not None, f"{name} uses no index: {step}"
            assert "filesort" not in str(extra), f"{name} sorts: {step}"


@pytest.mark.proves(143)
@pytest.mark.parametrize("name", ["ready", "due", "expired", "chores", "prunes", "claims_over", "purge_scheduled"])
def test_a_locking_read_locks_what_it_takes_and_reads_no_more(site: Site, name: str) -> None:
    read, locks = site.counted(name, *GIVEN[name])
    assert read <= 40, f"{name} of 10 rows reads {read} entries among {JOBS}"
    assert locks <= 4 * 10 + 4, f"{name} of 10 rows locks {locks}"


@pytest.mark.parametrize("name", ["purge_ready", "ended", "lapsed", "late_prunes"])
def test_what_sorts_locks_no_more_than_it_takes(site: Site, name: str) -> None:
    _, locks = site.counted(name, *GIVEN[name])
    assert locks <= 4 * 10 + 4, f"{name} of 10 rows locks {locks}"


def test_leaps_read_one_entry_for_each_step(site: Site) -> None:
    for name in ("ready_tasks", "due_queues"):
        read, _ = site.counted(name, *GIVEN[name])
        assert read <= 3, f"{name} reads {read} entries"


def test_the_next_due_of_queues_is_read_at_their_heads(site: Site) -> None:
    read, _ = site.counted("next_due", ["default", "other"])
    assert read <= 20


@pytest.mark.parametrize("index", ["job_ready", "job_due", "job_agenda"])
def test_without_its_index_a_statement_is_found_out(site: Site, index: str) -> None:
    """Statements name their index: one that is gone is an error (1176), and no scan of the table."""
    wanted = {"job_ready": "ready", "job_due": "due", "job_agenda": "chores"}[index]
    (text,) = site.texts(wanted, *GIVEN[wanted])
    assert f"FORCE INDEX ({index})" in text


@pytest.mark.proves(143)
def test_a_claim_costs_the_same_whatever_the_backlog(site: Site) -> None:
    asked = json.dumps(site.plan("ready", *GIVEN["ready"]), default=str)
    read, locks = site.counted("ready", "default", "noop", 0, [0], 50)
    assert read <= 60, asked
    assert locks <= 110, asked

    async def claims() -> float:
        began = anyio.current_time()
        for turn in range(5):
            answer = await site.store.apply(Exchange("m", f"cost{turn}", 50, ("default",), ("noop",), 10**10))
            assert len(answer.claimed) == 50
        return (anyio.current_time() - began) / 5

    took = site.portal.call(claims)
    print(f"claim of 50 among 10^5: {took * 1e6:.0f} us, {read} entries read, {locks} locks")
    assert took < 0.5  # row 143 asks for 5 ms on a machine that has nothing else to do
