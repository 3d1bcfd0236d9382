"""Every hot query of the SQLite store searches an index: EXPLAIN says so, and a claim costs the same at any backlog."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskweave.core.job import Spec
from taskweave.core.verbs import Enqueue, Exchange
from taskweave.stores._sqlite.connection import Settings, StoreConnection, connect
from taskweave.stores._sqlite.schema import bring_up
from taskweave.stores._sqlite.statements import STATEMENTS
from taskweave.stores._sqlite.verbs import apply
from taskweave.stores.clock import SystemClock

# What reads everything, on purpose, and never while a job waits for it: listings, counts, checks, a purge's order,
# and the pruning of rows whose results could not be dropped in time.
COLD = {
    "check_counts",
    "check_derived",
    "count_aside",
    "count_ended",
    "count_ready",
    "count_running",
    "count_scheduled",
    "dump_jobs",
    "late_prunes",
    "purge_aside",
    "purge_ready",
}
SMALL = ("SCAN meta", "SCAN pause", "SCAN json_each")  # one row, the paused queues, the op's own list


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[StoreConnection]:
    connection = connect(Settings(str(tmp_path / "jobs.db"), "the store", SystemClock()))
    bring_up(connection)
    yield connection
    connection.close()


def plan(connection: StoreConnection, sql: str) -> list[str]:
    explained = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?"))
    return [step for _, _, _, step in explained.fetchall()]


@pytest.mark.proves(143)
@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - COLD))
def test_hot_queries_search_an_index_and_never_sort(connection: StoreConnection, name: str) -> None:
    for step in plan(connection, STATEMENTS[name]):
        assert not step.startswith("SCAN") or step.startswith(SMALL), f"{name}: {step}"
        assert "TEMP B-TREE" not in step, f"{name}: {step}"


@pytest.mark.parametrize("name", ["count_ended", "count_ready", "count_running", "count_scheduled"])
def test_counts_walk_an_index_and_not_the_rows(connection: StoreConnection, name: str) -> None:
    assert any("INDEX job_" in step for step in plan(connection, STATEMENTS[name]))


@pytest.mark.parametrize("index", ["job_ready", "job_due", "job_lease", "job_chore", "job_expiry", "job_unique"])
def test_without_its_index_a_plan_is_found_out(connection: StoreConnection, index: str) -> None:
    connection.execute(f"DROP INDEX {index}")
    hot = [STATEMENTS[name] for name in STATEMENTS.keys() - COLD]
    steps = [step for sql in hot for step in plan(connection, sql)]
    assert [step for step in steps if step.startswith("SCAN job") or "TEMP B-TREE" in step]


def claim_cost(connection: StoreConnection, turns: int) -> tuple[float, int]:
    """Median microseconds of a claim of 50, and the virtual machine steps of the last, which no other load disturbs."""
    times: list[float] = []
    steps = 0

    def counted() -> int:
        nonlocal steps
        steps += 1
        return 0

    for turn in range(turns):
        steps = 0
        connection.set_progress_handler(counted, 10)
        began = time.perf_counter()
        answer = apply(connection, Exchange("m", f"{id(times)}-{turn}", 50, ("default",), ("noop",), 30_000_000))
        times.append((time.perf_counter() - began) * 1e6)
        connection.set_progress_handler(None, 0)
        assert len(answer.claimed) == 50
    return statistics.median(times), steps


def fill(connection: StoreConnection, first: int, until: int) -> None:
    for start in range(first, until, 10_000):
        specs = [Spec(f"{number:08}", "noop", "default", b"[]") for number in range(start, start + 10_000)]
        apply(connection, Enqueue(tuple(specs)))


@pytest.mark.proves(143)
def test_a_claim_costs_the_same_whatever_the_backlog(connection: StoreConnection) -> None:
    fill(connection, 0, 10_000)
    _, few = claim_cost(connection, 11)
    fill(connection, 10_000, 110_000)
    micros, many = claim_cost(connection, 11)
    print(f"claim of 50 at 10^5 rows: {micros:.0f} us; steps at 10^4: {few}, at 10^5: {many}")
    assert many <= 1.2 * few
    assert micros < 50_000  # row 143 asks for 5 ms; a loaded test machine gets ten times that


def test_expired_jobs_are_stepped_over_once(tmp_path: Path) -> None:
    class Clock:
        now = 1_000_000

        def wall(self) -> int:
            return self.now

    clock = Clock()
    connection = connect(Settings(str(tmp_path / "jobs.db"), "the store", clock))
    bring_up(connection)
    specs = [Spec(f"e{number:04}", "noop", "default", b"", expires_in_us=10, priority=1) for number in range(2_500)]
    apply(connection, Enqueue((*specs, Spec("alive", "noop", "default", b""))))
    clock.now += 20
    answers = [apply(connection, Exchange("m", f"c{turn}", 1, ("default",), ("noop",), 10**7)) for turn in range(3)]
    assert [len(answer.claimed) for answer in answers] == [0, 0, 1]
    assert [answer.next_due for answer in answers[:2]] == [clock.now, clock.now]  # ask again at once
    connection.close()


@pytest.mark.proves(142)
def test_sqlite_is_driven_from_one_place() -> None:
    """Only the store imports sqlite3, and the async driver is imported once; no second driver beside them."""
    import ast

    import taskweave

    root = Path(taskweave.__file__).parent
    importers: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                importers.setdefault(name.partition(".")[0], set()).add(path.relative_to(root).as_posix())
    assert importers["aiosqlite"] == {"stores/sqlite.py"}
    assert all(path.startswith(("stores/_sqlite/", "stores/sqlite.py")) for path in importers["sqlite3"])
    assert not importers.keys() & {"apsw", "pysqlite3", "sqlalchemy", "databases", "peewee"}


def test_the_schema_printed_is_the_schema_made(connection: StoreConnection) -> None:
    from taskweave.stores.sqlite import schema_sql

    model = sqlite3.connect(":memory:")
    model.executescript(schema_sql())
    listing = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert model.execute(listing).fetchall() == connection.execute(listing).fetchall()
    assert model.execute("PRAGMA user_version").fetchone() == connection.execute("PRAGMA user_version").fetchone()
    model.close()
