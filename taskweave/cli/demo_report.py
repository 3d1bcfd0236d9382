"""What the demo's store says in the end: read from the jobs themselves, so it is the same after any interruption."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import Factory, define

from taskweave.abc import TaskStore
from taskweave.cli.output import Document, decoded, one_line, say, show_table, span
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Job, State, Verb
from taskweave.core.verbs import Load

PAGE = 500
SLOWEST = 10
FAILURES_SHOWN = 10


@define
class Report:
    """Sums over every job of the demo; `seconds` by file are those that its jobs ran."""

    succeeded: int = 0
    retries: int = 0
    released: int = 0
    lost: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    nodes: int = 0
    failed: list[tuple[str, str, int, str]] = Factory(list[tuple[str, str, int, str]])
    ran_us: dict[str, dict[str, Micros]] = Factory(lambda: defaultdict[str, dict[str, Micros]](dict))

    def add(self, stage: str, path: str, job: Job, result: Mapping[str, int] | None) -> None:
        life, end = job.life, job.life.end
        self.retries += sum(attempt.verb is Verb.RETRY for attempt in life.history)
        self.released += sum(attempt.verb is Verb.RELEASE for attempt in life.history)
        self.lost += life.lost_count
        if end is None:
            return
        if job.state is State.SUCCEEDED:
            self.succeeded += 1
            self._add_result(stage, path, result)
        else:
            error = f"{end.error.type}: {end.error.message}" if end.error is not None else end.cause or ""
            self.failed.append((path, job.id, life.attempt, error))

    def _add_result(self, stage: str, path: str, result: Mapping[str, int] | None) -> None:
        if result is None:
            return  # dropped after its time to live
        self.bytes_before += result.get("before", 0)
        self.bytes_after += result.get("after", 0)
        self.nodes += result.get("nodes", 0)
        self.ran_us[path][stage] = result["took_us"]


class Placed(Protocol):
    """A job of the demo, as far as its report needs to know it."""

    @property
    def id(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def stage(self) -> Named: ...


class Named(Protocol):
    @property
    def name(self) -> str: ...


async def read_report(store: TaskStore, placed: Sequence[Placed]) -> Report:
    """Read every job of this demo, a page at a time."""
    report = Report()
    for start in range(0, len(placed), PAGE):
        page = placed[start : start + PAGE]
        for place, job in zip(page, await store.apply(Load(tuple(each.id for each in page))), strict=True):
            if job is not None:
                end = job.life.end
                result = decoded(end.result) if end is not None and end.result is not None else None
                report.add(place.stage.name, place.path, job, result)
    return report


def show_report(report: Report, *, done: int, elapsed_us: Micros, url: str, stages: Sequence[str]) -> None:
    """The table of slowest files, then retries, failures, throughput, and where to look further."""
    totals = sorted(report.ran_us.items(), key=lambda entry: -sum(entry[1].values()))
    base = os.path.commonpath([os.path.dirname(path) for path in report.ran_us]) if report.ran_us else ""
    rows = [
        (os.path.relpath(path, base), *(span(ran.get(stage, 0)) for stage in stages), span(sum(ran.values())))
        for path, ran in totals[:SLOWEST]
    ]
    say(f"\nSlowest files under {base}")
    show_table(("file", *(f"#{stage}" for stage in stages), "#together"), rows)
    if report.failed:
        say(f"\nDead letters: {len(report.failed)} jobs failed each of their attempts")
        shown = sorted(report.failed)[:FAILURES_SHOWN]
        show_table(
            ("file", "#attempts", "error"),
            [(os.path.relpath(path, base), str(attempts), one_line(error, 100)) for path, _, attempts, error in shown],
        )
        if len(report.failed) > FAILURES_SHOWN:
            say(f"… and {len(report.failed) - FAILURES_SHOWN} more")
    _show_totals(report, done=done, elapsed_us=elapsed_us)
    say("\nLook at the jobs:")
    say(f"  taskweave job list --store {url} --status failed")
    if report.failed:
        say(f"  taskweave job show {sorted(report.failed)[0][1]} --store {url}")
    say(f"  taskweave queue list --store {url}")


def _show_totals(report: Report, *, done: int, elapsed_us: Micros) -> None:
    rate = done / (elapsed_us / SECOND) if elapsed_us else 0.0
    say("")
    say(f"{report.succeeded} jobs succeeded, {len(report.failed)} failed, {report.retries} retries")
    if report.released or report.lost:
        say(f"{report.released} runs given back at an interruption, {report.lost} taken over from a killed process")
    say(f"this run: {done} jobs in {span(elapsed_us)}, {rate:,.0f} jobs/s")
    if report.bytes_before:
        share = 100 * report.bytes_after / report.bytes_before
        size = f"{report.bytes_before / 1e6:.1f} MB of source"
        say(f"{size} compress to {share:.0f} %; {report.nodes:,} syntax nodes parsed")
    if not report.failed:
        say("every file parsed, so nothing had to be tried again")


def as_document(report: Report, *, done: int, total: int, elapsed_us: Micros, url: str) -> Document:
    """The stable fields of the demo's end for --json."""
    slowest = sorted(report.ran_us.items(), key=lambda entry: -sum(entry[1].values()))[:SLOWEST]
    return {
        "store": url,
        "jobs": total,
        "done_in_this_run": done,
        "seconds": elapsed_us / SECOND,
        "succeeded": report.succeeded,
        "failed": [
            {"file": path, "id": id, "attempts": attempts, "error": error}
            for path, id, attempts, error in sorted(report.failed)
        ],
        "retries": report.retries,
        "released": report.released,
        "lost": report.lost,
        "slowest": [
            {"file": path, "seconds": {stage: ran / SECOND for stage, ran in runs.items()}} for path, runs in slowest
        ],
    }
