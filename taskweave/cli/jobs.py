"""taskweave job: look at jobs, and cancel, retry or delete them by id."""

from __future__ import annotations

from collections.abc import Sequence

import click
from attrs import evolve

from taskweave.abc import TaskStore
from taskweave.cli.changes import change_jobs
from taskweave.cli.output import Document, emit_json, instant, job_document, one_line, say, show_table
from taskweave.cli.reach import address, ask, confirm, confirm_options, json_option, store_options
from taskweave.core.job import Job, State
from taskweave.core.verbs import CancelJobs, DeleteJobs, Find, Load, RetryJobs
from taskweave.exceptions import InvalidValue, JobNotFound
from taskweave.view import JobView

PAGE = 500


@click.group()
def job() -> None:
    """Look at jobs, and cancel, retry or delete them."""


def tag_pairs(tags: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return ("k", "v") of each k=v. Raises InvalidValue."""
    pairs: list[tuple[str, str]] = []
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not key or not equals:
            raise InvalidValue("tag", tag, "key=value")
        pairs.append((key, value))
    return tuple(pairs)


async def find_jobs(store: TaskStore, wanted: Find, most: int) -> tuple[list[Job], int | None]:
    """Up to `most` jobs, newest first, page by page; and where to go on."""
    jobs: list[Job] = []
    after = wanted.after
    while True:
        found = await store.apply(evolve(wanted, after=after, limit=min(PAGE, most - len(jobs))))
        jobs += found.jobs
        after = found.next
        if after is None or len(jobs) >= most:
            return jobs, after


def show_jobs(jobs: Sequence[Job], following: int | None, *, as_json: bool) -> None:
    """A listing, the same for jobs and dead letters."""
    if as_json:
        emit_json({"jobs": [job_document(job) for job in jobs], "next": following})
        return
    show_table(("id", "task", "queue", "state", "#attempt", "created", "error"), [_row(job) for job in jobs])
    if following is not None:
        click.echo(f"… more: --after {following}", err=True)


def _row(job: Job) -> tuple[str, ...]:
    spec, view = job.spec, JobView(job)
    error = f"{view.error.type}: {view.error.message}" if view.error is not None else view.reason or ""
    created = f"{view.created_at:%Y-%m-%d %H:%M:%S}"
    attempts = f"{view.attempt}/{spec.max_attempts}"
    return spec.id, spec.task, spec.queue, job.state.value, attempts, created, one_line(error)


@job.command("list")
@click.option(
    "--status",
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    help="Only jobs in this state; may be repeated.",
)
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--task", help="Only jobs of this task.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only jobs with this tag; may be repeated.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--after", type=int, help="Go on where an earlier listing ended (its `next`).")
@json_option
@store_options
def list_jobs(
    states: tuple[str, ...],
    queue: str | None,
    task: str | None,
    tags: tuple[str, ...],
    limit: int,
    after: int | None,
    as_json: bool,
    store: str | None,
    app: str | None,
) -> None:
    """List jobs, newest first."""
    wanted = Find(tuple(State(state) for state in states), queue, task, tag_pairs(tags), after)
    jobs, following = ask(address(store, app), lambda store: find_jobs(store, wanted, limit))
    show_jobs(jobs, following, as_json=as_json)


async def load_job(store: TaskStore, id: str) -> Job:
    """The job with this id. Raises JobNotFound."""
    (found,) = await store.apply(Load((id,)))
    if found is None:
        raise JobNotFound(id)
    return found


@job.command()
@click.argument("id")
@json_option
@store_options
def show(id: str, as_json: bool, store: str | None, app: str | None) -> None:
    """Show everything that is known of one job."""
    document = job_document(ask(address(store, app), lambda store: load_job(store, id)))
    if as_json:
        emit_json(document)
        return
    history, error, tags = document.pop("history"), document.pop("error"), document.pop("tags")
    width = max(len(name) for name in document)
    for name, value in document.items():
        if value is not None:
            say(f"{name:<{width}}  {value}")
    for key, value in tags.items():
        say(f"{'tag ' + key:<{width}}  {value}")
    for attempt in history:
        _show_attempt(attempt)
    if error is not None:
        say(f"\n{error['type']}: {error['message']}")
        if error.get("traceback"):
            say(error["traceback"].rstrip("\n"))


def _show_attempt(attempt: Document) -> None:
    what = attempt["reason"] or ""
    if attempt["error"] is not None:
        what = f"{attempt['error']['type']}: {attempt['error']['message']}"
    ending = f"{attempt['ending']:<8} {attempt['ended_at']}"
    say(f"  attempt {attempt['attempt']}: {ending}  {attempt['member']}  {one_line(what)}")


@job.command()
@click.argument("id")
@json_option
@store_options
def why(id: str, as_json: bool, store: str | None, app: str | None) -> None:
    """Say in words what a job waits for, or how it ended."""
    from taskweave.core.verbs import Count, Stats
    from taskweave.core.why import why as reasons

    async def question(store: TaskStore) -> tuple[Job, Stats]:
        return await load_job(store, id), await store.apply(Count())

    found, stats = ask(address(store, app), question)
    lines = reasons(found, stats)
    if as_json:
        emit_json({"id": id, "state": found.state.value, "at": instant(stats.now), "why": list(lines)})
        return
    for line in lines:
        say(line)


@job.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", default="cancelled by an operator", show_default=True)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@json_option
@store_options
def cancel(ids: tuple[str, ...], reason: str, dry_run: bool, as_json: bool, store: str | None, app: str | None) -> None:
    """Cancel jobs: at once before they start, by asking their worker while they run."""
    op = CancelJobs(ids, reason)
    change_jobs(address(store, app), op, ids, "cancelled", dry=dry_run, as_json=as_json)


@job.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@json_option
@store_options
def retry(ids: tuple[str, ...], dry_run: bool, as_json: bool, store: str | None, app: str | None) -> None:
    """Run finished jobs that did not succeed again, with fresh attempts."""
    change_jobs(address(store, app), RetryJobs(ids), ids, "will run again", dry=dry_run, as_json=as_json)


@job.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@confirm_options
@store_options
def delete(ids: tuple[str, ...], as_json: bool, dry_run: bool, yes: bool, store: str | None, app: str | None) -> None:
    """Delete jobs that are not running, with their history. This cannot be undone."""
    if not dry_run:
        confirm(f"delete {len(ids)} job{'s' * (len(ids) != 1)}", yes=yes)
    change_jobs(address(store, app), DeleteJobs(ids), ids, "deleted", dry=dry_run, as_json=as_json)
