"""What the commands print: tables for people, JSON with stable names for programs.

Text that came from a job (an error message, a tag) is escaped before it reaches a terminal, and is never read as
markup. Without a terminal, or on a dumb one, a table is plain aligned columns, never cut off, so that pipes see
everything.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from taskweave.core.ids import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros
from taskweave.core.job import Job
from taskweave.core.verbs import QueueStat
from taskweave.observe.logging import escaped
from taskweave.view import JobView, moment

Document = dict[str, Any]

_DUMB: Final = ("dumb", "unknown")  # rich takes these for 80 columns and cuts ids off, whatever width it is told


def emit_json(document: object) -> None:
    click.echo(json.dumps(document, ensure_ascii=not _writes_unicode(), indent=2))


def _writes_unicode() -> bool:
    return (sys.stdout.encoding or "ascii").lower().replace("-", "") == "utf8"


def say(text: str) -> None:
    """Print one line or more for people; control characters shown, not obeyed (line ends are)."""
    click.echo("\n".join(escaped(line) for line in text.split("\n")))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns whose name starts with # are numbers, aligned to the right."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    names = [column.removeprefix("#") for column in columns]
    if sys.stdout.isatty() and os.environ.get("TERM") not in _DUMB:
        _rich_table(columns, names, cells)
        return
    widths = [max(len(line[place]) for line in (names, *cells)) for place in range(len(names))]
    for line in (names, *cells):
        padded = (
            cell.rjust(width) if column.startswith("#") else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _rich_table(columns: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, name in zip(columns, names, strict=True):
        table.add_column(Text(name), justify="right" if column.startswith("#") else "left", no_wrap=True)
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    console = Console()
    natural = sum(3 + max(cell_len(line[place]) for line in (names, *cells)) for place in range(len(names)))
    console.width = max(console.width, natural)  # the terminal wraps long lines; nothing is cut off
    console.print(table)


def instant(at: Micros | None) -> str | None:
    """ISO 8601 in UTC, as everywhere in the API's JSON, or None."""
    return None if at is None else moment(at).isoformat()


def span(micros: Micros) -> str:
    """A span for people: two digits of the unit that fits."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (MILLISECOND, "ms")):
        if abs(micros) >= unit:
            return f"{micros / unit:.3g} {name}"
    return f"{micros} µs"


def job_document(job: Job) -> Document:
    """What the API's JobView says, with what an operator besides wants to know of the row."""
    life, spec, hold = job.life, job.spec, job.life.hold
    progress = hold.progress if hold is not None else None
    return JobView(job).to_json() | {
        "run_at": instant(life.run_at),
        "version": spec.version,
        "timeout_seconds": spec.timeout_us / SECOND if spec.timeout_us is not None else None,
        "at_most_once": spec.at_most_once,
        "unique_key": spec.unique.key if spec.unique is not None else None,
        "trace_id": spec.trace,
        "fence": life.fence,
        "lost_count": life.lost_count,
        "worker": hold.member if hold is not None else None,
        "lease_until": instant(hold.lease_until if hold is not None else None),
        "cancel_requested": hold.cancel if hold is not None else None,
        "progress": {"done": progress.done, "total": progress.total, "note": progress.note} if progress else None,
    }


def one_line(text: str, most: int = 120) -> str:
    """The text without line ends, cut to `most` characters."""
    line = " ".join(text.split("\n"))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def decoded(data: bytes) -> Any:
    """The JSON that these bytes are, or their text where they are none."""
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "backslashreplace")


def queue_document(queue: QueueStat) -> Document:
    oldest = queue.oldest_ready_us
    return {
        "queue": queue.queue,
        "paused": queue.paused,
        "counts": {state.value: number for state, number in queue.counts},
        "oldest_ready_seconds": None if oldest is None else oldest / SECOND,
    }
