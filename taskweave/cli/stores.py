"""taskweave store: make a store, bring it up to date, look whether it is whole, copy it, print its SQL."""

from __future__ import annotations

from typing import Any

import anyio
import click

from taskweave.abc import TaskStore
from taskweave.cli.moving import copy_store
from taskweave.cli.output import Document, emit_json, say
from taskweave.cli.reach import address, ask, json_option, refuse_memory, store_options
from taskweave.cli.scripts import roles_script, schema_script
from taskweave.connect import connect
from taskweave.exceptions import MissingAbility


@click.group()
def store() -> None:
    """Create, migrate, check and copy a store; print its SQL."""


store.add_command(copy_store)


@store.command()
@store_options
def init(store: str | None, app: str | None) -> None:
    """Make the store, if it is not there; one that is there stays as it is."""
    url = address(store, app)
    refuse_memory(url)

    async def make() -> str:
        async with connect(url) as opened:
            return opened.url

    say(f"{anyio.run(make)} is ready")


@store.command()
@store_options
def migrate(store: str | None, app: str | None) -> None:
    """Bring the store's schema up to this version of taskweave. Forward only; doing it twice changes nothing."""

    async def look(store: TaskStore) -> tuple[str, Document]:
        return store.url, await facts_of(store)

    name, facts = ask(address(store, app), look)
    say(f"{name} has schema version {facts['schema_version']}")


@store.command()
@json_option
@store_options
def check(as_json: bool, store: str | None, app: str | None) -> None:
    """Look whether the store is whole: its file, its schema, its indexes. Exit code 1 when it is not."""

    async def look(store: TaskStore) -> tuple[str, Document, list[str]]:
        return store.url, await facts_of(store), await problems_of(store)

    url, facts, problems = ask(address(store, app), look)
    if as_json:
        emit_json({"store": url, "facts": facts, "problems": problems})
    else:
        for name, value in facts.items():
            say(f"{name:<24} {value}")
        for problem in problems:
            say(f"problem: {problem}")
        say(f"{url} has {len(problems)} problems" if problems else f"{url} is whole")
    if problems:
        click.get_current_context().exit(1)


@store.command()
@click.option("--roles", is_flag=True, help="The roles of a server's users instead: owner, worker, producer, reader.")
@store_options
def sql(roles: bool, store: str | None, app: str | None) -> None:
    """Print the SQL that makes the store's schema, for those who apply it themselves."""
    url = address(store, app)
    click.echo(roles_script(url) if roles else schema_script(url), nl=False)


async def facts_of(store: TaskStore) -> Document:
    """What the store says of itself. Raises MissingAbility where it says nothing."""
    return dict(await _own(store, "facts"))


async def problems_of(store: TaskStore) -> list[str]:
    """What the store finds wrong with itself."""
    return [str(problem) for problem in await _own(store, "check")]


async def _own(store: TaskStore, ability: str) -> Any:
    method = getattr(store, ability, None)
    if method is None:
        raise MissingAbility(store.url, ability)
    return await method()
