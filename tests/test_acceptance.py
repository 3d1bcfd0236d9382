"""The acceptance table tells the truth: a row is proved by tests that passed, and by nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance import main, merge, read_rows, state_of, table
from package_source import ROOT

SUITE = """
import pytest

@pytest.fixture
def broken():
    yield
    raise RuntimeError("tear-down")

@pytest.mark.proves(1)
def test_good(): ...

@pytest.mark.proves(2)
@pytest.mark.parametrize("n", [1, 2])
def test_half(n): assert n == 1

@pytest.mark.proves(3)
@pytest.mark.skip
def test_left_out(): ...

@pytest.mark.proves(4, 5)
def test_bad_end(broken): ...
"""


def test_the_record_holds_what_each_test_proved(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = proves\n", encoding="utf-8")
    record = tmp_path / "record.json"
    environment = {**os.environ, "TASKWEAVE_ACCEPTANCE": str(record), "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "acceptance_plugin", "-p", "no:cacheprovider", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
    assert json.loads(record.read_text(encoding="utf-8")) == {
        "1": {"test_suite.py::test_good": "passed"},
        "2": {"test_suite.py::test_half[1]": "passed", "test_suite.py::test_half[2]": "failed"},
        "3": {"test_suite.py::test_left_out": "skipped"},
        "4": {"test_suite.py::test_bad_end": "failed"},
        "5": {"test_suite.py::test_bad_end": "failed"},
    }


@pytest.mark.parametrize(
    ("tests", "state"),
    [
        ({}, "not yet"),
        ({"a": {"skipped"}}, "not yet"),
        ({"a": {"passed"}, "b": {"skipped"}}, "proved"),
        ({"a": {"passed", "skipped"}}, "proved"),
        ({"a": {"passed", "failed"}}, "failing"),
        ({"a": {"passed"}, "b": {"failed"}}, "failing"),
    ],
)
def test_the_state_of_a_row(tests: dict[str, set[str]], state: str) -> None:
    assert state_of(tests) == state


def test_the_table_is_complete_only_when_every_row_is_proved() -> None:
    rows = {1: "one", 2: "two"}
    lines, complete = table(rows, merge([{"1": {"t[x]": "passed", "t[y]": "passed"}}]))
    assert not complete
    assert lines == [
        "   1  proved   one",
        "                 t (2 cases)",
        "   2  not yet  two",
        "1 proved, 0 failing, 1 not yet",
    ]
    assert table(rows, merge([{"1": {"t": "passed"}}, {"2": {"u": "passed"}}]))[1]
    assert not table(rows, merge([{"1": {"t": "passed"}}, {"2": {"u": "passed"}}, {"2": {"u": "failed"}}]))[1]
    both = {"1": {"t": "passed"}, "2": {"u": "passed"}}
    assert table(rows, merge([both, {"3": {"v": "skipped"}}]), {3: "three"})[1]
    assert not table(rows, merge([both, {"3": {"v": "failed"}}]), {3: "three"})[1]


def test_without_records_nothing_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert capsys.readouterr().out.endswith(f"0 proved, 0 failing, {len(read_rows())} not yet\n")


def test_every_row_that_a_test_names_is_listed() -> None:
    named: set[int] = set()
    for folder in ("tests", "property_tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != Path(__file__):
                for arguments in re.findall(r"mark\.proves\(([\d, ]+)\)", path.read_text(encoding="utf-8")):
                    named.update(int(row) for row in arguments.split(",") if row.strip())
    assert named <= {*read_rows(), *read_rows("beyond")}
