"""taskweave queue: how long the lines are; hold them, let them go, empty them."""

from __future__ import annotations

import click

from taskweave.abc import TaskStore
from taskweave.cli.output import emit_json, queue_document, say, show_table, span
from taskweave.cli.reach import address, ask, confirm, confirm_options, json_option, store_options
from taskweave.core.bounds import check_name
from taskweave.core.job import State
from taskweave.core.verbs import Count, PauseQueue, PurgeQueue, QueueStat, ResumeQueue


@click.group()
def queue() -> None:
    """List, pause, resume and purge queues."""


@queue.command("list")
@json_option
@store_options
def list_queues(as_json: bool, store: str | None, app: str | None) -> None:
    """List the queues with what they hold."""
    stats = ask(address(store, app), lambda store: store.apply(Count()))
    if as_json:
        emit_json({"queues": [queue_document(queue) for queue in stats.queues]})
        return
    columns = ("queue", "paused", *(f"#{state.value}" for state in State), "#oldest ready")
    show_table(columns, [_row(queue) for queue in stats.queues])


def _row(queue: QueueStat) -> tuple[str, ...]:
    oldest = "" if queue.oldest_ready_us is None else span(queue.oldest_ready_us)
    return queue.queue, "paused" * queue.paused, *(str(queue.count(state)) for state in State), oldest


@queue.command()
@click.argument("name")
@store_options
def pause(name: str, store: str | None, app: str | None) -> None:
    """Start no more jobs of this queue; what runs goes on, what comes waits."""
    changed = ask(address(store, app), lambda store: store.apply(PauseQueue(check_name("queue", name))))
    say(f"{name} is paused" if changed else f"{name} was paused already")


@queue.command()
@click.argument("name")
@store_options
def resume(name: str, store: str | None, app: str | None) -> None:
    """Start jobs of this queue again."""
    changed = ask(address(store, app), lambda store: store.apply(ResumeQueue(check_name("queue", name))))
    say(f"{name} goes on" if changed else f"{name} was not paused")


@queue.command()
@click.argument("name")
@confirm_options
@store_options
def purge(name: str, dry_run: bool, yes: bool, store: str | None, app: str | None) -> None:
    """Delete every job of this queue that has not started. This cannot be undone."""
    check_name("queue", name)
    url = address(store, app)

    async def waiting(store: TaskStore) -> int:
        stats = await store.apply(Count())
        return sum(queue.count(State.READY, State.SCHEDULED) for queue in stats.queues if queue.queue == name)

    async def empty(store: TaskStore) -> int:
        total = 0
        while gone := await store.apply(PurgeQueue(name)):
            total += gone
        return total

    number = ask(url, waiting)
    if dry_run:
        say(f"{number} waiting jobs of {name} would be deleted; nothing was changed (--dry-run)")
        return
    confirm(f"delete {number} waiting jobs of {name}", yes=yes)
    say(f"{ask(url, empty)} jobs of {name} deleted")
