"""taskweave dlq: the dead letters are the jobs in state failed (and lost); redrive runs them again."""

from __future__ import annotations

import click

from taskweave.abc import TaskStore
from taskweave.cli.changes import show_changes
from taskweave.cli.jobs import find_jobs, show_jobs
from taskweave.cli.output import say
from taskweave.cli.reach import address, ask, confirm, confirm_options, json_option, store_options
from taskweave.core.job import State
from taskweave.core.verbs import Changed, Find, RetryJobs

_DEAD = (State.FAILED, State.LOST)
_BATCH = 500


@click.group()
def dlq() -> None:
    """The dead letters: list them, run them again."""


@dlq.command("list")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--task", help="Only jobs of this task.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--after", type=int, help="Go on where an earlier listing ended (its `next`).")
@json_option
@store_options
def list_dead(
    queue: str | None,
    task: str | None,
    limit: int,
    after: int | None,
    as_json: bool,
    store: str | None,
    app: str | None,
) -> None:
    """List the dead letters, newest first."""
    wanted = Find(_DEAD, queue, task, after=after)
    jobs, following = ask(address(store, app), lambda store: find_jobs(store, wanted, limit))
    show_jobs(jobs, following, as_json=as_json)


@dlq.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--task", help="Only jobs of this task.")
@click.option("--limit", default=10_000, show_default=True, type=click.IntRange(1, 1_000_000))
@json_option
@confirm_options
@store_options
def redrive(
    ids: tuple[str, ...],
    queue: str | None,
    task: str | None,
    limit: int,
    as_json: bool,
    dry_run: bool,
    yes: bool,
    store: str | None,
    app: str | None,
) -> None:
    """Run dead letters again with fresh attempts: those named, or all that match."""
    url = address(store, app)
    if not ids:
        jobs, _ = ask(url, lambda store: find_jobs(store, Find(_DEAD, queue, task), limit))
        ids = tuple(job.id for job in jobs)
    if dry_run:
        say(f"{len(ids)} dead letters would run again; nothing was changed (--dry-run)")
        return
    confirm(f"run {len(ids)} dead letters again", yes=yes)

    async def again(store: TaskStore) -> list[Changed]:
        changes: list[Changed] = []
        for start in range(0, len(ids), _BATCH):
            changes += await store.apply(RetryJobs(ids[start : start + _BATCH]))
        return changes

    show_changes(ask(url, again), "will run again", as_json=as_json)
