"""taskweave bench: what this machine does in a second, and what a job waits and costs.

Each measurement is a process of its own; the rounds of all of them take turns, so that a machine which changes its
speed disturbs them alike. Given are medians with the slowest and the fastest; ratios are taken inside a round. The
floor does what any worker must do and nothing else, through the same store: claim 100, run each as a task of the
loop, settle 100.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import click
from attrs import frozen

from taskweave.cli.bench_speed import given
from taskweave.cli.output import emit_json, say, show_table
from taskweave.cli.reach import json_option
from taskweave.connect import opener
from taskweave.exceptions import WorkerFailed

SECONDS_MAX: Final = 900  # of one measurement
Round: TypeAlias = dict[str, float]


@frozen
class Step:
    """One measure on one store and loop; `jobs` where the measure has a size of its own."""

    measure: str
    loop: str
    store: str
    jobs: int = 0


def plan_of(loops: Sequence[str], scale: bool, urls: Sequence[str] = ()) -> list[Step]:
    """What a round measures, in its order; with addresses, on those stores instead of the embedded ones."""
    first = loops[0]
    full = () if urls else ("sqlite-full",)
    stores = tuple(urls) or ("memory", "sqlite")
    steps = [
        Step(measure, loop, store)
        for store in (*stores, *full)
        for loop in (loops if store not in full else loops[:1])
        for measure in ("floor", "drain")
    ]
    steps += [Step("enqueue", first, store) for store in stores]
    steps += [Step("latency_across", first, store, 100) for store in stores if store != "memory"]
    steps += [
        Step("latency", loop, store, 100) for store in stores for loop in loops if (store, loop) != ("memory", "trio")
    ]
    steps += [Step("rest", first, store, 5_000) for store in stores]
    if not urls:
        steps += [Step("memory", first, "memory", 20_000), Step("imported", first, "memory", 5)]
    if scale:
        steps += [Step("claim", first, store, jobs) for store in stores for jobs in (10_000, 1_000_000)]
    return steps


@click.command()
@click.option("--jobs", default=20_000, show_default=True, type=click.IntRange(100, 1_000_000))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--only", metavar="TEXT", help="Only measures whose name contains this: floor, drain, enqueue …")
@click.option(
    "--loop",
    "loops",
    multiple=True,
    type=click.Choice(["asyncio", "uvloop", "trio"]),
    default=("asyncio", "trio"),
    show_default=True,
    help="The event loops to run on.",
)
@click.option("--scale", is_flag=True, help="Claims on 10,000 and 1,000,000 queued jobs too.")
@click.option(
    "--store",
    "urls",
    multiple=True,
    metavar="URL",
    help="Measure on this server, in a namespace that is made and dropped, instead of memory and SQLite.",
)
@json_option
def bench(
    jobs: int,
    rounds: int,
    only: str | None,
    loops: tuple[str, ...],
    scale: bool,
    urls: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure drain, enqueue, latency, rest and memory with no-op jobs, on memory and SQLite, or on servers."""
    for url in urls:
        opener(url)  # a wrong address is refused before the first round
    steps = [step for step in plan_of(loops, scale, urls) if only is None or only in step.measure]
    found: dict[Step, list[Round]] = {step: [] for step in steps}
    for turn in range(rounds):
        for number, step in enumerate(steps, 1):
            if not as_json and sys.stderr.isatty():
                click.echo(f"\rround {turn + 1}/{rounds}, {number}/{len(steps)} {step.measure:<20}", nl=False, err=True)
            found[step].append(measured(step, jobs))
    if as_json:
        emit_json({"jobs": jobs, "rounds": rounds, "figures": [document(*each) for each in found.items()]})
        return
    versions = f"Python {platform.python_version()}, {os.cpu_count()} processors"
    say(f"{jobs} no-op jobs, {rounds} rounds, median (slowest to fastest); {versions}")
    show_table(("measure", "store", "loop", "figure", "#median", "#range"), list(rows_of(found)))


def measured(step: Step, jobs: int) -> Round:
    """Raises WorkerFailed with the last line of what went wrong."""
    kind, env = given(step.store)
    command = [sys.executable, "-m", "taskweave.cli.bench_measures", step.measure, step.loop, kind]
    done = subprocess.run(
        [*command, str(step.jobs or jobs)], capture_output=True, text=True, timeout=SECONDS_MAX, check=False, env=env
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise WorkerFailed(f"the measurement {step.measure} on {shown(step.store)} and {step.loop} failed: {last}")
    return {str(name): float(value) for name, value in json.loads(done.stdout).items()}


def document(step: Step, rounds: Sequence[Round]) -> dict[str, object]:
    facts = {name: [round[name] for round in rounds] for name in rounds[0]}
    return {"measure": step.measure, "store": shown(step.store), "loop": step.loop, "jobs": step.jobs or None, **facts}


def rows_of(found: dict[Step, list[Round]]) -> Iterable[tuple[str, ...]]:
    for step, rounds in found.items():
        name = f"{step.measure} {step.jobs:,}" if step.measure == "claim" else step.measure
        for fact in rounds[0]:
            yield name, shown(step.store), step.loop, fact.replace("_", " "), *spread([round[fact] for round in rounds])
        if step.measure == "drain":
            for what, other in (("of the floor", Step("floor", step.loop, step.store)), _asyncio_of(step)):
                if other != step and other in found:
                    yield name, shown(step.store), step.loop, what, *spread(list(_ratios(rounds, found[other])))


def shown(store: str) -> str:
    """A store's kind: an address would show a password, and be too long."""
    return store.partition("://")[0]


def _asyncio_of(step: Step) -> tuple[str, Step]:
    return "of asyncio", Step(step.measure, "asyncio", step.store)


def _ratios(rounds: Sequence[Round], others: Sequence[Round]) -> Iterable[float]:
    for one, other in zip(rounds, others, strict=True):
        yield one["jobs_per_second"] / other["jobs_per_second"]


def spread(values: Sequence[float]) -> tuple[str, str]:
    """The median, and the range, with as many digits as they are worth."""
    shown = "{:,.0f}".format if max(values) >= 100 else "{:.2f}".format
    return shown(statistics.median(values)), f"{shown(min(values))} to {shown(max(values))}"
