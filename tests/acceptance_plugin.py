"""Keeps what each test with @pytest.mark.proves(row, ...) proved, for the table that tests/acceptance.py prints.

With TASKWEAVE_ACCEPTANCE=file the outcomes are written there as JSON: row -> test -> passed, failed or skipped.
Without it nothing happens.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

RECORD = os.environ.get("TASKWEAVE_ACCEPTANCE")
_rows: dict[str, list[int]] = {}
_outcomes: dict[str, str] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        rows = {row for mark in item.iter_markers("proves") for row in mark.args}
        if rows:
            _rows[item.nodeid] = sorted(rows)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test has passed when its call has, and neither its set-up nor its tear-down failed."""
    before = _outcomes.get(report.nodeid)
    if report.failed:
        _outcomes[report.nodeid] = "failed"
    elif report.skipped and before != "failed":
        _outcomes[report.nodeid] = "skipped"
    elif report.when == "call" and before is None:
        _outcomes[report.nodeid] = "passed"


def pytest_sessionfinish() -> None:
    if RECORD is None:
        return
    table: dict[int, dict[str, str]] = {}
    for test, rows in _rows.items():
        for row in rows:
            if test in _outcomes:
                table.setdefault(row, {})[test] = _outcomes[test]
    Path(RECORD).write_text(json.dumps(table, indent=1, sort_keys=True), encoding="utf-8")
