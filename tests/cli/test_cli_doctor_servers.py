"""doctor and store check on servers: what is wrong is found with its remedy, and nothing says a password."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from attrs import evolve
from click.testing import Result
from every_kind import fill
from servers import Server

from taskweave import connect
from taskweave.cli import doctor, findings
from taskweave.cli.finding_values import Finding
from taskweave.cli.server_findings import clock_apart, server_findings
from taskweave.core.ids import SECOND

Invoke = Callable[..., Result]
Private = Callable[..., Server]
SERVERS = ["postgres", "mysql", "redis"]
NAMESPACE = "doctored"


def make(server: Server) -> str:
    """A store with jobs in it; its address."""
    url = server.url(NAMESPACE)

    async def run() -> None:
        async with connect.connect(url) as store:
            await fill(store)

    anyio.run(run)
    return url


def found(result: Result, server: Server) -> dict[str, list[dict[str, str]]]:
    """The findings that are not well, by check; a password or a traceback is in none of them."""
    assert server.password not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    by_check: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(result.stdout)["findings"]:
        if finding["level"] != "ok":
            by_check.setdefault(finding["check"], []).append(finding)
    return by_check


def examine(invoke: Invoke, server: Server, url: str) -> dict[str, list[dict[str, str]]]:
    return found(invoke("doctor", "--json", "--store", url), server)


@pytest.mark.proves(119)
@pytest.mark.parametrize("kind", SERVERS)
def test_a_careful_server_has_nothing_wrong(invoke: Invoke, private_server: Private, kind: str) -> None:
    server = private_server(kind, durable=True)
    url = make(server)
    well = examine(invoke, server, url)
    assert set(well) <= {"dead letters", "queues"}, well  # the jobs' own: one failed, one queue is paused
    for command in (("doctor",), ("store", "check"), ("store", "migrate"), ("store", "init"), ("queue", "list")):
        result = invoke(*command, "--store", url)
        assert result.exit_code == 0, result.output
        assert server.password not in result.output
        assert "Traceback" not in result.output


@pytest.mark.proves(119, 133)
@pytest.mark.parametrize(
    ("kind", "settings", "check", "level", "words"),
    [
        ("postgres", {"fsync": "off"}, "durability", "problem", "fsync is off"),
        ("postgres", {"synchronous_commit": "off"}, "durability", "warning", "synchronous_commit is off"),
        (
            "mysql",
            {"innodb_flush_log_at_trx_commit": 0},
            "durability",
            "warning",
            "innodb_flush_log_at_trx_commit is 0",
        ),
        ("redis", {"appendonly": "no"}, "durability", "problem", "takes all jobs"),
        ("redis", {"appendonly": "no", "save": "60 1"}, "durability", "warning", "since the last snapshot"),
        ("redis", {"appendfsync": "no"}, "durability", "warning", "appendfsync is no"),
        ("redis", {"maxmemory-policy": "allkeys-lru"}, "memory", "problem", "throws jobs away"),
    ],
)
def test_a_careless_setting_is_found(
    invoke: Invoke,
    private_server: Private,
    kind: str,
    settings: dict[str, object],
    check: str,
    level: str,
    words: str,
) -> None:
    server = private_server(kind, durable=True, **settings)
    (finding,) = examine(invoke, server, make(server))[check]
    assert finding["level"] == level
    assert words in finding["text"]
    assert finding["remedy"]


@pytest.mark.proves(119)
@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_is_down_or_refuses_is_a_finding(invoke: Invoke, private_server: Private, kind: str) -> None:
    server = private_server(kind)
    url = make(server)
    wrong = server.url(NAMESPACE, password="wrong-word")
    (finding,) = examine(invoke, server, wrong)["store"]
    assert (finding["level"], finding["remedy"]) == ("problem", "taskweave explain TW1408")
    assert "wrong-word" not in json.dumps(finding)
    assert "TW1405" in examine(invoke, server, server.url("nothing_there"))["store"][0]["text"]
    server.halt()
    (finding,) = examine(invoke, server, url)["store"]
    assert (finding["level"], finding["remedy"]) == ("problem", "taskweave explain TW1401")
    for command in (("doctor",), ("store", "check"), ("backup", url, "file")):
        result = invoke(*command, *(() if url in command else ("--store", url)))
        assert result.exit_code == 1
        assert server.password not in result.output
        assert "Traceback" not in result.output


@pytest.mark.proves(119)
def test_a_dropped_index_and_an_unlogged_table_are_found(invoke: Invoke, private_server: Private) -> None:
    server = private_server("postgres", durable=True)
    url = make(server)
    server.admin(f"DROP INDEX {NAMESPACE}.job_due")
    (finding,) = examine(invoke, server, url)["schema"]
    assert (finding["level"], "job_due" in finding["text"]) == ("problem", True)
    server.admin(f"ALTER TABLE {NAMESPACE}.claim SET UNLOGGED")
    (finding,) = examine(invoke, server, url)["store"]
    assert "UNLOGGED" in finding["text"]


# --- each finding, from the facts alone ---------------------------------------------------------------------------

POSTGRES = {"synchronous_commit": "on", "fsync": "on", "full_page_writes": "on", "server_version": "15.4", "jobs": 10}
MYSQL = {"innodb_flush_log_at_trx_commit": 1, "server_version": "MariaDB 10.11"}
REDIS = {
    **{"appendonly": "yes", "appendfsync": "always", "server": "redis", "version": "7.0"},
    **{"role": "master", "maxmemory_policy": "noeviction"},
}


def judged(facts: dict[str, Any]) -> list[Finding]:
    return [finding for finding in server_findings(facts) if finding.level != "ok"]


@pytest.mark.parametrize("facts", [POSTGRES, MYSQL, REDIS, {}, {**REDIS, "appendfsync": "everysec"}])
def test_good_facts_have_no_finding(facts: dict[str, Any]) -> None:
    assert judged(facts) == []


@pytest.mark.parametrize(
    ("facts", "check", "level"),
    [
        ({**POSTGRES, "full_page_writes": "off"}, "durability", "problem"),
        ({**POSTGRES, "standby": True}, "server", "problem"),
        ({**POSTGRES, "dead_rows": 60_000}, "vacuum", "warning"),
        ({**POSTGRES, "connections": 85, "connections_max": 100}, "connections", "warning"),
        ({**POSTGRES, "connections": 96, "connections_max": 100}, "connections", "problem"),
        ({**MYSQL, "innodb_flush_log_at_trx_commit": "2"}, "durability", "warning"),
        ({**MYSQL, "innodb_doublewrite": "OFF"}, "durability", "problem"),
        ({**MYSQL, "log_bin": 1, "sync_binlog": 0}, "durability", "warning"),
        ({**MYSQL, "unpurged_transactions": 2_000_000}, "purge", "warning"),
        ({**MYSQL, "read_only": True}, "server", "problem"),
        ({**REDIS, "role": "slave"}, "server", "problem"),
        ({**REDIS, "appendonly": "unknown"}, "durability", "warning"),
        ({**REDIS, "maxmemory_policy": "volatile-ttl"}, "memory", "problem"),
        ({**REDIS, "memory_used_bytes": 99, "memory_max_bytes": 100}, "memory", "problem"),
    ],
)
def test_what_the_facts_say_is_judged(facts: dict[str, Any], check: str, level: str) -> None:
    (finding,) = judged(facts)
    assert (finding.check, finding.level) == (check, level)
    assert finding.remedy


def test_clocks_that_differ_are_a_warning() -> None:
    assert clock_apart(10 * SECOND, 9 * SECOND).level == "ok"
    behind, ahead = clock_apart(10 * SECOND, 8 * SECOND), clock_apart(8 * SECOND, 10 * SECOND)
    assert (behind.level, ahead.level) == ("warning", "warning")
    assert "2 s behind" in behind.text
    assert "2 s ahead of" in ahead.text


def test_a_clock_that_differs_from_the_servers_is_found(shared_server: Callable[[str], Server]) -> None:
    url = make(shared_server("redis"))

    async def run() -> None:
        async with connect.connect(url) as store:
            seen = await doctor.look(store)
            for shift, level in ((0, "ok"), (5 * SECOND, "warning"), (-5 * SECOND, "warning")):
                shifted = evolve(seen, wall=seen.wall + shift)
                (clock,) = [each for each in findings.store_findings(shifted) if each.check == "clock"]
                assert clock.level == level

    anyio.run(run)
