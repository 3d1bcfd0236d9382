"""What copies, backups and restores say: progress on a terminal, tables of what there is, and the outcome."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from taskweave.backup import Backup
from taskweave.cli.output import Document, emit_json, say
from taskweave.transfer import Comparison, Copied, Tally

REFUSED_SHOWN: Final = 10


class Progress:
    """One line on a terminal, rewritten; nothing where stderr is no terminal."""

    def __init__(self, word: str, total: int) -> None:
        self.word, self.total, self.done = word, total, 0
        self.shown = sys.stderr.isatty()

    def __call__(self, more: int) -> None:
        self.done += more
        if self.shown:
            click.echo(f"\r{self.done:,} of {max(self.total, self.done):,} {self.word}", nl=False, err=True)


@contextmanager
def progress(word: str, total: int) -> Generator[Progress]:
    progress = Progress(word, total)
    try:
        yield progress
    finally:
        if progress.shown and progress.done:
            click.echo(err=True)


def tally_document(tally: Tally) -> Document:
    counts: dict[str, dict[str, int]] = {}
    for (queue, state), number in sorted(tally.counts.items()):
        counts.setdefault(queue, {})[state.value] = number
    return {"jobs": tally.jobs, "checksum": tally.checksum, "counts": counts}


def show_plan(tally: Tally, existing: int, running: int, there: bool, *, as_json: bool) -> None:
    if as_json:
        emit_json({"source": tally_document(tally), "existing": existing, "running": running, "target_exists": there})
        return
    say(f"{tally.jobs:,} jobs, {existing:,} of them there already, {running:,} running")
    say(f"the store {'is there' if there else 'would be made'}; nothing was changed (--dry-run)")


def show_file(file: Path, found: Backup, *, as_json: bool) -> None:
    name, tally = found.header.store, found.tally
    if as_json:
        emit_json({"file": str(file), "store": name, **tally_document(tally)})
    else:
        say(f"{file} is whole: {tally.jobs:,} jobs of {name}; nothing was changed (--dry-run)")


def show_outcome(copied: Copied, comparison: Comparison, *, as_json: bool) -> None:
    """The outcome; exit code 1 where the sides differ."""
    if as_json:
        emit_json(
            {
                "stored": copied.stored,
                "existing": copied.existing,
                "released": copied.running,
                "key_taken": copied.refused,
                "source": tally_document(comparison.source),
                "target": tally_document(comparison.target),
                "differences": comparison.differences,
                "first_difference": comparison.first,
                "equal": comparison.equal,
            }
        )
    else:
        _say_outcome(copied, comparison)
    if not comparison.equal:
        click.get_current_context().exit(1)


def _say_outcome(copied: Copied, comparison: Comparison) -> None:
    released = f", {copied.running:,} of them given back" if copied.running else ""
    say(f"{copied.stored:,} jobs stored, {copied.existing:,} were there already{released}")
    for answer in copied.taken[:REFUSED_SHOWN]:
        say(f"not stored: {answer.id}, its unique key is held by {answer.holder}")
    if copied.refused > REFUSED_SHOWN:
        say(f"not stored: {copied.refused - REFUSED_SHOWN:,} more, for the same reason")
    if comparison.equal:
        say(f"compared: {comparison.source.jobs:,} jobs, equal (checksum {comparison.source.checksum})")
    else:
        say(f"compared: {comparison.differences:,} of {comparison.source.jobs:,} jobs differ")
        say(f"the first: {comparison.first}")
