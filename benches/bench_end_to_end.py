"""Everything that a user would feel, in turns, with medians and spread: `python benches/bench_end_to_end.py`.

Rounds of all measures alternate, each in a process of its own, so that a machine which changes its speed disturbs
them alike; ratios are taken inside a round and their median is given. `--json FILE` keeps every number.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
Round = dict[str, float]

PLAN: list[tuple[str, str, str, int]] = [
    (measure, backend, store, 0)
    for store in ("memory", "sqlite", "sqlite-full")
    for backend in ("asyncio", "uvloop", "trio")
    for measure in ("floor", "drain")
    if not (store == "sqlite-full" and backend != "asyncio")
] + [
    ("enqueue", "asyncio", "memory", 0),
    ("enqueue", "asyncio", "sqlite", 0),
    ("latency", "asyncio", "memory", 100),
    ("latency", "asyncio", "sqlite", 100),
    ("latency", "trio", "sqlite", 100),
    ("latency_across", "asyncio", "sqlite", 100),
    ("rest", "asyncio", "memory", 5_000),
    ("rest", "asyncio", "sqlite", 5_000),
    ("rest", "trio", "sqlite", 5_000),
    ("memory", "asyncio", "memory", 20_000),
    ("imported", "asyncio", "memory", 7),
]
SCALE: list[tuple[str, str, str, int]] = [
    ("claim", "asyncio", store, jobs) for store in ("memory", "sqlite") for jobs in (10_000, 1_000_000)
]


def measured(measure: str, backend: str, store: str, jobs: int) -> Round:
    command = [sys.executable, str(HERE / "measures.py"), measure, backend, store, str(jobs)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=600)
    return json.loads(done.stdout)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--jobs", type=int, default=20_000)
    arguments.add_argument("--only", help="a part of a measure's name")
    arguments.add_argument("--scale", action="store_true", help="claims on 10,000 and 1,000,000 queued jobs too")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    plan = [step for step in PLAN + (SCALE if options.scale else []) if not options.only or options.only in step[0]]
    found: dict[tuple[str, str, str, int], list[Round]] = {}
    for turn in range(options.rounds):
        for step in plan:
            measure, backend, store, jobs = step
            print(f"\rround {turn + 1}/{options.rounds} {measure} {backend} {store}".ljust(70), end="", file=sys.stderr)
            found.setdefault(step, []).append(measured(measure, backend, store, jobs or options.jobs))
    print(file=sys.stderr)
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores,"
        f" {options.jobs} jobs, {options.rounds} rounds; median (slowest to fastest)\n"
    )
    for line in table(found):
        print(line)
    if options.json:
        rows = [{"step": step, "rounds": rounds} for step, rounds in found.items()]
        options.json.write_text(json.dumps(rows, indent=1))


def table(found: dict[tuple[str, str, str, int], list[Round]]) -> list[str]:
    lines = ["| measure | store | loop | figure | median (min–max) |", "|---|---|---|---|---:|"]
    for (measure, backend, store, jobs), rounds in found.items():
        size = f" {jobs:,}" if measure == "claim" else ""
        lines += [
            f"| {measure}{size} | {store} | {backend} | {fact} | {spread([each[fact] for each in rounds])} |"
            for fact in rounds[0]
        ]
        if measure == "drain":
            floor = found.get(("floor", backend, store, jobs))
            if floor:
                lines.append(f"| drain / floor | {store} | {backend} | ratio | {ratio(rounds, floor)} |")
            if backend == "trio":
                other = found[("drain", "asyncio", store, jobs)]
                lines.append(f"| trio / asyncio | {store} | | ratio | {ratio(rounds, other)} |")
    return lines


def ratio(rounds: list[Round], others: list[Round]) -> str:
    fact = "jobs_per_second"
    return spread([one[fact] / other[fact] for one, other in zip(rounds, others, strict=True)])


def spread(values: list[float]) -> str:
    shown = "{:,.0f}".format if max(values) >= 100 else "{:.2f}".format
    return f"{shown(statistics.median(values))} ({shown(min(values))}–{shown(max(values))})"


if __name__ == "__main__":
    main()
