"""Everything that must pass: `pip install nox && nox`.

Every session installs what it needs into a fresh virtual environment, so that a missing install step shows. An
interpreter that the machine does not have is skipped. The last session prints the acceptance table from what the others
recorded.

What runs where. Every test runs on the oldest Python, on asyncio and on trio. uvloop takes the place of asyncio's loop
and of nothing else, so what a loop could change runs there: the runtime, the API, the bridge, the stores. Each newer
Python runs everything once, 3.12 on asyncio and 3.13 on trio, but harms no servers: what a killed server does to a
worker depends on the driver and on the loop, not on the interpreter.

    nox -s lint                        one session
    nox -s "tests-3.11(loop='trio')" -- -x -k sqlite      with arguments for pytest
    nox -s acceptance                  the table alone: runs just the tests that prove a row

`.ci/run` runs two halves of the sessions side by side; TASKWEAVE_RECORDS is where they leave what they proved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import nox

OLDEST, NEWER = "3.11", {"3.12": "asyncio", "3.13": "trio"}
RECORDS = Path(os.environ.get("TASKWEAVE_RECORDS", Path(__file__).parent / ".nox" / "records"))
GROUPS = nox.project.load_toml("pyproject.toml")
APART = ["--ignore=tests/test_docs.py", "--ignore=tests/test_examples.py"]  # the session docs runs them
OF_THE_LOOP = [
    "tests/runtime",
    "tests/api",
    "tests/stores",
    "tests/test_bridge.py",
    "tests/faults/test_store_outage.py",
]

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "no"
nox.options.sessions = ["lint", "tests", "tests_newer", "properties", "docs", "packaging", "acceptance"]

recorded: list[str] = []  # by the sessions of this very run: an older run proves nothing


def _install(session: nox.Session, *groups: str, extras: str = "[all]") -> None:
    wanted = [need for group in groups for need in nox.project.dependency_groups(GROUPS, group)]
    session.install("--no-compile", f".{extras}", *wanted)  # most of what is installed is never imported


def _record(session: nox.Session) -> Path:
    """A new file for what this session proves; several of nox may run at once."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() else "-" for letter in session.name)
    record = RECORDS / f"{name}-{len(recorded):02}.json"
    record.unlink(missing_ok=True)
    recorded.append(str(record))
    return record


def _pytest(session: nox.Session, *args: str, loops: str = "asyncio,trio", via: str = "pytest", **env: str) -> None:
    """Run pytest against the installed package, and keep what each test proves for the session acceptance."""
    env |= {"TASKWEAVE_TEST_BACKENDS": loops, "TASKWEAVE_ACCEPTANCE": str(_record(session))}
    session.run(*via.split(), *args, *session.posargs, env=env)


def _prove(session: nox.Session, row: int, what: str, *command: str) -> None:
    """Run a command that proves a row of the acceptance table by its success."""
    outcome = "failed"
    try:
        session.run(*command)
        outcome = "passed"
    finally:
        _record(session).write_text(json.dumps({row: {what: outcome}}), encoding="utf-8")


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Style, types and layers."""
    _install(session, "lint", "test")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy", "--strict", "-p", "taskweave")
    session.run("pyright")
    session.run("lint-imports", "--no-cache")


@nox.session(python=OLDEST)
@nox.parametrize("loop", ["asyncio", "uvloop", "trio"])
def tests(session: nox.Session, loop: str) -> None:
    """The whole suite on asyncio and trio; what uses no loop runs with the first. On uvloop what a loop can change."""
    if loop == "asyncio":
        _install(session, "test", "lint", "servers", "drivers")
        _pytest(session, "tests", *APART, loops=loop)
        return
    _install(session, "test", "servers", "drivers")
    where = OF_THE_LOOP if loop == "uvloop" else ["tests", *APART, "--ignore=tests/test_typing.py"]
    _pytest(session, *where, loops=loop, TASKWEAVE_TEST_ONLY_LOOPS="1")


@nox.session(python=list(NEWER))
def tests_newer(session: nox.Session) -> None:
    """The suite once on each newer Python; what the type checkers say, and how servers die, does not depend on them."""
    _install(session, "test", "drivers")
    loop = NEWER[str(session.python)]
    _pytest(session, "tests", *APART, "--ignore=tests/test_typing.py", loops=loop, TASKWEAVE_TEST_SERVERS="none")
    _pytest(session, "tests/stores", loops=loop)


@nox.session(python=OLDEST)
def properties(session: nox.Session) -> None:
    """The state machines and properties, under coverage: every branch of the core that can be taken is taken."""
    _install(session, "test", "coverage", "servers")
    _pytest(session, "property_tests", "tests/core", via="coverage run -m pytest")
    _prove(session, 130, "coverage of taskweave/core", "coverage", "report")


@nox.session(python=OLDEST)
def hunts(session: nox.Session) -> None:
    """Bugs planted in the SQL and the Lua, hunted by long walks on servers; apart, because it takes long."""
    _install(session, "test", "servers")
    _pytest(session, "property_tests", "-k", "planted or walk_finds", TASKWEAVE_HUNT="1")


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """Every code block of README.md and docs/, every example, with the output that they show."""
    _install(session, "test")
    _pytest(session, "tests/test_docs.py", "tests/test_examples.py")


@nox.session(python=OLDEST)
def packaging(session: nox.Session) -> None:
    """What a user gets: the built wheel in an environment that holds nothing else."""
    _install(session, "test", extras="")
    _pytest(session, "tests/packaging")


@nox.session(python=OLDEST)
def acceptance(session: nox.Session) -> None:
    """The acceptance table, from this run's records; alone, it first runs the tests that prove a row."""
    of_lanes = sorted(str(each) for each in RECORDS.glob("*.json")) if "TASKWEAVE_RECORDS" in os.environ else []
    if not recorded and not of_lanes:
        _install(session, "test", "lint", "servers", "drivers")
        _pytest(session, "-m", "proves", "tests", "tests/packaging", "property_tests")
    session.run("python", "tests/acceptance.py", *(of_lanes or recorded))
