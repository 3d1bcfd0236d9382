"""taskweave store copy, backup, restore: all jobs of a store, to another one, to a file, and back.

What was moved is read back and compared; a difference is exit code 1 with the first job that differs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import click

from taskweave import backup as backups
from taskweave.abc import TaskStore
from taskweave.cli import Refusal
from taskweave.cli.moving_output import progress, show_file, show_outcome, show_plan, tally_document
from taskweave.cli.output import emit_json, say
from taskweave.cli.reach import json_option, refuse_memory
from taskweave.connect import connect
from taskweave.core.ids import SECOND, Micros
from taskweave.core.job import Job, State
from taskweave.core.verbs import Count, Export, Load
from taskweave.exceptions import StoreMissing
from taskweave.transfer import Comparison, Copied, Tally, compare, copy, pages


@click.command("copy")
@click.argument("from_url")
@click.argument("to_url")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and change nothing.")
@click.option(
    "--running",
    type=click.Choice(["refuse", "release"]),
    default="refuse",
    show_default=True,
    help="What to do about jobs that run: refuse to copy, or give them back in the copy.",
)
@json_option
def copy_store(from_url: str, to_url: str, dry_run: bool, running: str, as_json: bool) -> None:
    """Copy every job to another store, as it is, and compare both. Run it again to go on.

    Stop the workers of both stores first. Jobs that are there already are left as they are; pauses and the aging
    setting go along; the first store is not changed. Exit code 1 when the two differ.
    """
    refuse_memory(from_url)
    refuse_memory(to_url)
    if dry_run:
        show_plan(*anyio.run(_plan, from_url, to_url), as_json=as_json)
        return
    copied, comparison = anyio.run(_copy, from_url, to_url, running == "release")
    show_outcome(copied, comparison, as_json=as_json)


@click.command()
@click.argument("url")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@json_option
def backup(url: str, file: Path, overwrite: bool, as_json: bool) -> None:
    """Write every job of a store into a file, while workers run; compressed if its name ends in .gz.

    The file holds every argument and result: it gets mode 0600, and its name only when it is complete.
    """
    refuse_memory(url)
    if file.exists() and not overwrite:
        raise Refusal(f"{file} is there already; pass --overwrite to replace it")

    async def run() -> tuple[str, Tally]:
        async with opened(url) as store:
            total = await _count(store)
            with progress("written", total) as told:
                return store.url, await backups.write(store, file, told)

    try:
        name, tally = anyio.run(run)
    except OSError as error:
        raise Refusal(f"{file} cannot be written: {error.strerror or error}") from error
    if as_json:
        emit_json({"store": name, "file": str(file), **tally_document(tally)})
    else:
        say(f"{tally.jobs:,} jobs of {name} are in {file}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("url")
@click.option("--dry-run", is_flag=True, help="Check the file, say what is in it, and change nothing.")
@json_option
def restore(file: Path, url: str, dry_run: bool, as_json: bool) -> None:
    """Store every job of a backup, as it was, and compare. Run it again to go on.

    The file is checked to its end first. Jobs that are there already are left as they are, and differ then if they
    have gone on since. Exit code 1 when a job of the file is not there as it was.
    """
    refuse_memory(url)
    try:
        found = backups.Backup(file)
    except OSError as error:
        raise Refusal(f"{file} cannot be read: {error.strerror or error}") from error
    with found:
        if dry_run:
            show_file(file, found, as_json=as_json)
            return
        copied, comparison = anyio.run(_restore, found, url)
    show_outcome(copied, comparison, as_json=as_json)


# --- what they do -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(url: str, *, create: bool = False, aging_us: Micros | None = None) -> AsyncGenerator[TaskStore]:
    """A store that takes whatever another one took, however large."""
    aging = None if aging_us is None else aging_us / SECOND
    async with connect(url, create=create, aging=aging, payload_bytes_max=backups.JOB_BYTES_MAX) as store:
        yield store


async def _count(store: TaskStore, *states: State) -> int:
    stats = await store.apply(Count())
    return sum(queue.count(*(states or tuple(State))) for queue in stats.queues)


async def _copy(from_url: str, to_url: str, release: bool) -> tuple[Copied, Comparison]:
    async with opened(from_url) as source:
        total, running = await _count(source), await _count(source, State.RUNNING)
        if running and not release:
            raise _still_running(running)
        settings = await source.apply(Export(limit=1))
        async with opened(to_url, create=True, aging_us=settings.aging_us) as target:
            if source.url == target.url:
                raise Refusal(f"{source.url} is both the store to copy and the one to copy to")
            with progress("copied", total) as told:
                copied = await copy(pages(source), settings.paused, target, release=release, told=told)
            if copied.stopped:
                raise _still_running(copied.running)
            with progress("compared", total) as told:
                return copied, await compare(pages(source), target, told)


async def _restore(found: backups.Backup, url: str) -> tuple[Copied, Comparison]:
    header, total = found.header, found.tally.jobs
    async with opened(url, create=True, aging_us=header.aging_us) as target:
        with progress("restored", total) as told:
            copied = await copy(found.pages(), header.paused, target, release=True, told=told)
        with progress("compared", total) as told:
            return copied, await compare(found.pages(), target, told)


def _still_running(number: int) -> Refusal:
    return Refusal(
        f"{number:,} jobs are running: stop the workers and let them end, or pass --running release, "
        "which gives them back in the copy (their workers do not know, so they may run twice)"
    )


async def _plan(from_url: str, to_url: str) -> tuple[Tally, int, int, bool]:
    """What there is to copy, how many of it are there already, how many run, and whether the target exists."""
    async with opened(from_url) as source:
        running = await _count(source, State.RUNNING)
        try:
            async with opened(to_url) as target:
                tally, existing = await _look(pages(source), target)
                return tally, existing, running, True
        except StoreMissing:
            tally, existing = await _look(pages(source), None)
            return tally, existing, running, False


async def _look(jobs: AsyncIterator[tuple[Job, ...]], target: TaskStore | None) -> tuple[Tally, int]:
    tally, existing = Tally(), 0
    async for page in jobs:
        for job in page:
            tally.add(job)
        if target is not None:
            found = await target.apply(Load(tuple([job.id for job in page])))
            existing += sum(job is not None for job in found)
    return tally, existing
