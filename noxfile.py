"""Everything that must pass: `pip install nox && nox`.

Every session installs what it needs into a fresh virtual environment, so that a missing install step shows. The whole
suite runs on the oldest Python and on newer ones, on each event loop; an interpreter that the machine does not have is
skipped. The last session prints the acceptance table from what the others recorded.

    nox -s lint                        one session
    nox -s "tests-3.11(loop='trio')" -- -x -k sqlite      with arguments for pytest
    nox -s acceptance                  the table alone: runs just the tests that prove a row
"""

from __future__ import annotations

import json
from pathlib import Path

import nox

OLDEST, NEWER = "3.11", ["3.12", "3.13"]
RECORDS = Path(__file__).parent / ".nox" / "records"
GROUPS = nox.project.load_toml("pyproject.toml")
APART = ["--ignore=tests/test_docs.py", "--ignore=tests/test_examples.py"]  # the session docs runs them

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "no"
nox.options.sessions = ["lint", "tests", "tests_newer", "properties", "docs", "packaging", "acceptance"]

recorded: list[str] = []  # by the sessions of this very run: an older run proves nothing


def _install(session: nox.Session, *groups: str, extras: str = "[all]") -> None:
    wanted = [need for group in groups for need in nox.project.dependency_groups(GROUPS, group)]
    session.install(f".{extras}", *wanted)


def _pytest(session: nox.Session, *args: str, loops: str = "asyncio,trio", via: str = "pytest", **env: str) -> None:
    """Run pytest against the installed package, and keep what each test proves for the session acceptance."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    record = RECORDS / f"{len(recorded):02}.json"
    record.unlink(missing_ok=True)
    recorded.append(str(record))
    env |= {"TASKWEAVE_TEST_BACKENDS": loops, "TASKWEAVE_ACCEPTANCE": str(record)}
    session.run(*via.split(), *args, *session.posargs, env=env)


def _prove(session: nox.Session, row: int, what: str, *command: str) -> None:
    """Run a command that proves a row of the acceptance table by its success."""
    outcome = "failed"
    try:
        session.run(*command)
        outcome = "passed"
    finally:
        record = RECORDS / f"{len(recorded):02}.json"
        record.write_text(json.dumps({row: {what: outcome}}), encoding="utf-8")
        recorded.append(str(record))


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
    """The whole suite on the oldest Python, once for each event loop; what uses no loop runs with the first."""
    _install(session, "test", "lint")
    _pytest(session, "tests", *APART, loops=loop, TASKWEAVE_TEST_ONLY_LOOPS="" if loop == "asyncio" else "1")


@nox.session(python=NEWER)
def tests_newer(session: nox.Session) -> None:
    """The whole suite on newer Pythons and every loop; what the type checkers say does not depend on them."""
    _install(session, "test")
    _pytest(session, "tests", *APART, "--ignore=tests/test_typing.py", loops="asyncio,uvloop,trio")


@nox.session(python=OLDEST)
def properties(session: nox.Session) -> None:
    """The state machines and properties, under coverage: every branch of the core that can be taken is taken."""
    _install(session, "test", "coverage")
    _pytest(session, "property_tests", "tests/core", via="coverage run -m pytest")
    _prove(session, 130, "coverage of taskweave/core", "coverage", "report")


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
    if not recorded:
        _install(session, "test", "lint")
        _pytest(session, "-m", "proves", "tests", "tests/packaging", "property_tests")
    session.run("python", "tests/acceptance.py", *recorded)
