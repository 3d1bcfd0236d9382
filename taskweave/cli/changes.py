"""What became of an operator's verb, job by job; exit code 1 when a job was not changed."""

from __future__ import annotations

from collections.abc import Sequence

import click

from taskweave.cli.output import Document, emit_json, say
from taskweave.cli.reach import ask
from taskweave.core.verbs import Change, Changed, Load, Op


def show_changes(changes: Sequence[Changed], done: str, *, as_json: bool) -> None:
    """One line for each job; exit code 1 if any of them was not changed."""
    words = {
        Change.DONE: done,
        Change.REQUESTED: "is running: its worker was asked to stop it",
        Change.REFUSED: "unchanged",
        Change.UNKNOWN: "there is no such job",
        Change.KEY_TAKEN: "unchanged: its unique key is held by",
    }
    if as_json:
        emit_json({"changes": [_change_document(change) for change in changes]})
    for change in () if as_json else changes:
        line = f"{change.id}  {words[change.change]}"
        if change.change is Change.KEY_TAKEN:
            line += f" {change.holder}"
        elif change.change is Change.REFUSED:
            line += f": it is {change.state.value if change.state else 'unknown'}"
        say(line)
    if any(change.change not in (Change.DONE, Change.REQUESTED) for change in changes):
        click.get_current_context().exit(1)


def _change_document(change: Changed) -> Document:
    state = change.state.value if change.state is not None else None
    return {"id": change.id, "change": change.change.value, "state": state, "holder": change.holder}


def change_jobs(
    url: str, op: Op[tuple[Changed, ...]], ids: Sequence[str], done: str, *, dry: bool, as_json: bool
) -> None:
    """Apply the op, or with `dry` only say which jobs it is about."""
    if dry:
        found = ask(url, lambda store: store.apply(Load(tuple(ids))))
        names = {job.id: f"{job.spec.task} in {job.spec.queue}, {job.state.value}" for job in found if job is not None}
        for id in ids:
            say(f"{id}  {names.get(id, 'there is no such job')}")
        click.echo("nothing was changed (--dry-run)")
        return
    show_changes(ask(url, lambda store: store.apply(op)), done, as_json=as_json)
