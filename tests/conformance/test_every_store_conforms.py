"""Every store passes the conformance suite, on both runtimes, and under faults; what was found is a page of the docs.

Each certificate is made once for all tests that ask for it. Where both runtimes are tested in one run, the second one
is asked a fourth of the sequential checks and all others; TASKWEAVE_CONFORMANCE=full asks it everything.
After a change of what the suite asks:
TASKWEAVE_REGENERATE=1 pytest tests/conformance
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import anyio
import pytest
from package_source import ROOT
from places_under_test import KINDS, NAMES, SERVERS, harmed, maker_of

from taskweave.testing import Certificate, check_store
from taskweave.testing.certificate import by_guarantee
from taskweave.testing.checks.registry import checks
from taskweave.testing.conformance.__main__ import main
from taskweave.testing.suite import names

PAGE = ROOT / "docs/reference/conformance.md"
BACKENDS = [each for each in os.environ.get("TASKWEAVE_TEST_BACKENDS", "asyncio,trio").split(",") if each != "uvloop"]
ABILITIES = ("Listens", "Transacts", "EnqueuesInside")


EACH = 4  # of the sequential checks, on the second runtime: what a verb means does not depend on the loop


def _asked(backend: str) -> Callable[[str], bool] | None:
    """Everything on the first runtime; on others what meets the loop, and a part of the rest."""
    if backend == BACKENDS[0] or os.environ.get("TASKWEAVE_CONFORMANCE") == "full":
        return None
    left_out = {check.name for number, check in enumerate(checks()) if number % EACH}
    return lambda name: name not in left_out


@cache
def certificate(kind: str, backend: str) -> Certificate:
    return anyio.run(partial(check_store, maker_of(kind), only=_asked(backend)), backend=backend)


@pytest.mark.timeout(300)
@pytest.mark.proves(26)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_every_promise(kind: str, backend: str) -> None:
    found = certificate(kind, backend)
    assert found.failed == (), found.summary()
    assert found.reached == "concurrent"
    assert found.backend == backend


@pytest.mark.proves(39)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_memory_store_keeps_every_promise_that_it_can(backend: str) -> None:
    found = certificate("memory", backend)
    assert found.passed, found.summary()
    assert {each.ability for each in found.skipped} == {"Transacts", "EnqueuesInside"}


@pytest.mark.timeout(300)
@pytest.mark.proves(26)
@pytest.mark.parametrize("kind", SERVERS)
def test_it_keeps_every_promise_while_its_server_is_killed_and_cut_off(kind: str) -> None:
    with harmed(kind) as make:
        found = anyio.run(partial(check_store, make, level="faults", only=_of_faults), backend=BACKENDS[0])
    assert found.failed == (), found.summary()
    assert {outcome.name for outcome in found.outcomes} == {name for name in names("faults") if _of_faults(name)}


def _of_faults(name: str) -> bool:
    return name not in names("concurrent")


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_store_that_nobody_can_harm_does_not_reach_the_level_faults(kind: str) -> None:
    found = anyio.run(partial(check_store, maker_of(kind), level="faults", only=lambda name: name == "enqueues_one"))
    assert found.reached != "faults"
    assert not found.passed
    assert "make_store.kill" in {each.ability for each in found.skipped}


# --- the page -----------------------------------------------------------------------------------------------------


def stores_by_guarantee() -> str:
    """Guarantee by store: how many checks held, of how many; and the abilities that a store lacks."""
    found = {kind: certificate(kind, BACKENDS[0]) for kind in KINDS}
    table = by_guarantee(list(found.values()))
    lines = [f"| | {' | '.join(NAMES[kind] for kind in KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    for guarantee, cells in table.items():
        held = [cells.get(found[kind].store, (0, 0)) for kind in KINDS]
        lines.append(f"| {guarantee} | {' | '.join(f'{good} of {all}' for good, all in held)} |")
    for ability in ABILITIES:
        lacking = [ability in {each.ability for each in found[kind].skipped} for kind in KINDS]
        lines.append(f"| {ability} | {' | '.join('no' if lacks else 'yes' for lacks in lacking)} |")
    return "\n".join(lines)


def checks_by_guarantee() -> str:
    """Guarantee, and the sequential checks that are about it."""
    of: dict[str, list[str]] = {}
    for check in checks():
        for guarantee in check.proves:
            of.setdefault(guarantee, []).append(check.name)
    ordered = sorted(of.items(), key=lambda entry: int(entry[0][1:]))
    return "\n".join(f"- **{guarantee}**: {', '.join(f'`{name}`' for name in found)}" for guarantee, found in ordered)


PARTS = {"stores by guarantee": stores_by_guarantee, "checks by guarantee": checks_by_guarantee}


@pytest.mark.timeout(300)
@pytest.mark.proves(26)
@pytest.mark.parametrize("name", PARTS)
def test_the_page_shows_what_was_found(name: str) -> None:
    page, wanted = PAGE.read_text(encoding="utf-8"), PARTS[name]() + "\n"
    found = re.search(rf"<!-- generated: {re.escape(name)} -->\n((?:(?!<!--).)*?)<!-- end -->", page, re.DOTALL)
    assert found is not None, f"the page has no part {name!r}"
    if os.environ.get("TASKWEAVE_REGENERATE"):
        PAGE.write_text(page[: found.start(1)] + wanted + page[found.end(1) :], encoding="utf-8")
        return
    assert found[1] == wanted, "regenerate the page: TASKWEAVE_REGENERATE=1 pytest tests/conformance"


# --- as a program -------------------------------------------------------------------------------------------------


def test_the_program_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broken:BROKEN_STORE", "--level", "basic"]) == 1
    assert "names no function" in capsys.readouterr().err
    assert main(["memory://", "--level", "basic", "--json"]) == 0
    assert '"level_reached": "basic"' in capsys.readouterr().out


def test_pytest_collects_a_test_for_each_check(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    line = ["-m", "pytest", "-p", "taskweave.testing.plugin", "--pyargs", "taskweave.testing.conformance"]
    options = ["--store", "memory://", "--level", "basic", "-q", "-p", "no:cacheprovider"]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    done = run([sys.executable, *line, *options], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    assert f"{len(names('basic'))} passed" in done.stdout
