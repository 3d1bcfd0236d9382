"""Prints the acceptance table: each row of acceptance.toml with its state and the tests that show it.

    python tests/acceptance.py RECORD.json ...

proved: its tests passed, at least one did; failing: one of them failed; not yet: no test of it ran. Exits with 1
unless every row that is due is proved, and none is failing.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROWS_FILE = Path(__file__).with_name("acceptance.toml")
Outcomes = dict[int, dict[str, set[str]]]  # row -> test -> its outcomes, over all runs


def _section(name: str) -> dict[str, Any]:
    section: dict[str, Any] = tomllib.loads(ROWS_FILE.read_text(encoding="utf-8"))[name]
    return section


def read_rows(section: str = "rows") -> dict[int, str]:
    """The rows that are due, or those of another section, with their titles."""
    return {int(row): title for row, title in _section(section).items()}


def merge(records: Iterable[Mapping[str, Mapping[str, str]]]) -> Outcomes:
    merged: Outcomes = {}
    for record in records:
        for row, tests in record.items():
            for test, outcome in tests.items():
                merged.setdefault(int(row), {}).setdefault(test, set()).add(outcome)
    for row, other in _section("same").items():
        merged.setdefault(int(row), {}).update(merged.get(other, {}))
    return merged


def state_of(tests: Mapping[str, set[str]]) -> str:
    outcomes: set[str] = set().union(*tests.values())
    if "failed" in outcomes:
        return "failing"
    return "proved" if "passed" in outcomes else "not yet"


def table(
    due: Mapping[int, str], outcomes: Outcomes, beyond: Mapping[int, str] | None = None
) -> tuple[list[str], bool]:
    """Return the lines to print, and whether every row that is due is proved and no other is failing."""
    lines: list[str] = []
    counts = dict.fromkeys(("proved", "failing", "not yet"), 0)
    failing = False
    for row, title in [*sorted(due.items()), *sorted((beyond or {}).items())]:
        tests = outcomes.get(row, {})
        state = state_of(tests)
        failing |= state == "failing"
        counts[state] += row in due
        lines.append(f"{row:>4}  {state:<8} {title}" + ("" if row in due else " (in part; not due)"))
        lines.extend(_tests(tests, state))
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    return lines, counts["proved"] == len(due) and not failing


def _tests(tests: Mapping[str, set[str]], state: str) -> list[str]:
    """One line for each test function with the number of its cases; the failed cases when the row is failing."""
    if state == "failing":
        return [f"                 FAILED {test}" for test, outcomes in sorted(tests.items()) if "failed" in outcomes]
    cases: dict[str, int] = {}
    for test, outcomes in tests.items():
        if "passed" in outcomes:
            name = test.partition("[")[0]
            cases[name] = cases.get(name, 0) + 1
    return [f"                 {name}" + (f" ({number} cases)" if number > 1 else "") for name, number in cases.items()]


def main(paths: list[str]) -> int:
    records = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths if Path(path).exists()]
    lines, complete = table(read_rows(), merge(records), read_rows("beyond"))
    print("\n".join(lines))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
