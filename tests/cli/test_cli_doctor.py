"""doctor and store check find what was planted, each with a remedy, and nothing where nothing is wrong."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import Result
from command_line import in_app

from taskweave._runtime.env import SystemEnv
from taskweave.cli import doctor
from taskweave.cli import findings as findings_of
from taskweave.core.ids import MINUTE, SECOND
from taskweave.core.job import State
from taskweave.core.verbs import Exchange, QueueStat, Stats

Invoke = Callable[..., Result]


def findings(invoke: Invoke, level: str = "problem") -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and the findings of this level by check."""
    result = invoke("doctor", "--json", "--app", "jobsapp")
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(result.stdout)["findings"]:
        if finding["level"] == level:
            found.setdefault(finding["check"], []).append(finding)
    return result.exit_code, found


def fill(loaded: Any) -> list[str]:
    async def run() -> list[str]:
        return [(await loaded.hello.enqueue("x")).id, (await loaded.broken.enqueue("x")).id]

    return in_app(loaded.app, run)


def execute(folder: Path, sql: str, *args: Any) -> list[Any]:
    connection = sqlite3.connect(folder / "jobs.db")
    try:
        with connection:
            return connection.execute(sql, args).fetchall()
    finally:
        connection.close()


@pytest.mark.proves(119)
def test_a_healthy_store_has_no_problem(invoke: Invoke, loaded: Any) -> None:
    fill(loaded)
    assert findings(invoke) == (0, {})
    text = invoke("doctor", "--app", "jobsapp").stdout
    assert "no problems" in text
    assert "Traceback" not in text


@pytest.mark.proves(119)
def test_a_store_that_does_not_open_is_a_problem(invoke: Invoke, loaded: Any) -> None:
    code, found = findings(invoke)
    assert code == 1
    assert "TW1405" in found["store"][0]["text"]
    assert found["store"][0]["remedy"] == "taskweave explain TW1405"


@pytest.mark.proves(119, 143)
def test_a_dropped_index_is_found(invoke: Invoke, loaded: Any, folder: Path) -> None:
    fill(loaded)
    indexes = execute(folder, "SELECT name FROM sqlite_master WHERE type='index' AND sql IS NOT NULL ORDER BY name")
    for (name,) in indexes:
        (sql,) = execute(folder, "SELECT sql FROM sqlite_master WHERE name=?", name)[0]
        execute(folder, f"DROP INDEX {name}")
        code, found = findings(invoke)
        assert code == 1
        assert name in found["schema"][0]["text"]
        check = invoke("store", "check", "--json", "--app", "jobsapp")
        assert check.exit_code == 1
        assert name in json.loads(check.stdout)["problems"][0]
        execute(folder, sql)
    assert findings(invoke) == (0, {})
    assert invoke("store", "check", "--app", "jobsapp").exit_code == 0


@pytest.mark.proves(119)
def test_a_queue_without_workers_is_found(invoke: Invoke, loaded: Any) -> None:
    fill(loaded)
    stats = Stats(0, (QueueStat("mail", False, ((State.READY, 3),), 2 * MINUTE),))
    (finding,) = findings_of.waiting(stats)
    assert (finding.level, finding.remedy) == ("problem", "taskweave worker APP --queues mail")
    fresh = evolve(stats, queues=(evolve(stats.queues[0], oldest_ready_us=SECOND),))
    assert [finding.level for finding in findings_of.waiting(fresh)] == ["ok"]
    busy = evolve(stats.queues[0], counts=((State.READY, 3), (State.RUNNING, 1)))
    assert [finding.level for finding in findings_of.waiting(Stats(0, (busy,)))] == ["ok"]


def test_a_paused_queue_is_a_warning(invoke: Invoke, loaded: Any) -> None:
    fill(loaded)
    invoke("queue", "pause", "mail", "--app", "jobsapp")
    code, found = findings(invoke, "warning")
    assert code == 0
    assert found["queues"][0]["remedy"] == "taskweave queue resume mail"


@pytest.mark.proves(119)
def test_a_lease_that_nobody_takes_over_is_found(invoke: Invoke, loaded: Any) -> None:
    fill(loaded)
    past = SystemEnv().wall()

    async def run() -> None:
        op = Exchange("gone", "c1", 1, ("default",), ("jobsapp.hello",), 1)
        await loaded.app.store.apply(op)
        seen = await doctor.look(loaded.app.store)
        assert [job.life.hold is not None for job in seen.running] == [True]
        assert findings_of.leases(seen).level == "ok"
        later = evolve(seen, stats=evolve(seen.stats, now=past + 10 * MINUTE))
        assert findings_of.leases(later).level == "problem"

    in_app(loaded.app, run)


@pytest.mark.proves(119)
def test_a_clock_that_is_behind_is_found(invoke: Invoke, loaded: Any) -> None:
    fill(loaded)

    async def run() -> None:
        seen = await doctor.look(loaded.app.store)
        assert findings_of.clock(seen).level == "ok"
        assert findings_of.clock(evolve(seen, wall=seen.wall - 10 * MINUTE)).level == "problem"

    in_app(loaded.app, run)


@pytest.mark.proves(119)
def test_a_disk_that_is_full_is_found() -> None:
    assert findings_of.disk(1 << 20, 1 << 40).level == "problem"
    assert findings_of.disk(10 << 30, 1 << 40).level == "warning"
    assert findings_of.disk(1 << 39, 1 << 40).level == "ok"


@pytest.mark.proves(119)
def test_dead_letters_and_an_open_file_are_warnings(invoke: Invoke, loaded: Any, folder: Path) -> None:
    fill(loaded)

    async def run() -> None:
        await loaded.app.executor().run_until_idle()

    in_app(loaded.app, run)
    os.chmod(folder / "jobs.db", 0o644)
    code, found = findings(invoke, "warning")
    assert code == 0
    assert found["dead letters"][0]["remedy"] == "taskweave dlq list"
    assert found["file"][0]["remedy"].startswith("chmod 600")


def test_damage_is_found(invoke: Invoke, loaded: Any, folder: Path) -> None:
    fill(loaded)
    execute(folder, "PRAGMA wal_checkpoint(TRUNCATE)")
    ((root, size),) = execute(
        folder,
        "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE sql LIKE '%jobs%' AND type='table'",
    )[:1]
    path = folder / "jobs.db"
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : (root - 1) * size + 100] = b"\xff" * 100
    path.write_bytes(data)
    result = invoke("store", "check", "--app", "jobsapp")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    doctored = invoke("doctor", "--app", "jobsapp")
    assert doctored.exit_code == 1
    assert isinstance(doctored.exception, SystemExit)


def test_init_migrate_and_sql(invoke: Invoke, folder: Path) -> None:
    assert invoke("store", "init", "--store", "sqlite:///new.db").exit_code == 0
    assert (folder / "new.db").exists()
    assert invoke("store", "init", "--store", "sqlite:///new.db").exit_code == 0
    assert "schema version 1" in invoke("store", "migrate", "--store", "sqlite:///new.db").stdout
    assert invoke("store", "init", "--store", "memory://").exit_code == 1
    assert invoke("store", "init", "--store", "sqlite:///no/where.db").exit_code == 1
    script = invoke("store", "sql").stdout
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 3
    connection.close()


def test_an_environment_variable_names_the_store(invoke: Invoke, loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(loaded)
    monkeypatch.setenv("TASKWEAVE_STORE", "sqlite:///jobs.db")
    assert len(json.loads(invoke("job", "list", "--json").stdout)["jobs"]) == 2
