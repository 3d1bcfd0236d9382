"""How a command reaches a store: which address, and one run of an event loop in which to ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click

from taskweave.abc import TaskStore
from taskweave.exceptions import InvalidStoreUrl

DEFAULT_STORE: Final = "sqlite:///taskweave.db"

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


def store_options(command: F) -> F:
    """Adds --store and --app; the command receives `store` as an address."""
    app = click.option("--app", "app", metavar="TARGET", help="Use the store of this app: module:attribute or file.py.")
    store = click.option(
        "--store",
        "store",
        metavar="URL",
        envvar="TASKWEAVE_STORE",
        show_envvar=True,
        help=f"The store's address; default {DEFAULT_STORE}.",
    )
    return store(app(command))


def confirm_options(command: F) -> F:
    """Adds --dry-run and --yes, for what cannot be undone."""
    yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    dry = click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
    return dry(yes(command))


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object with stable field names.")


def address(store: str | None, app: str | None) -> str:
    """The store's address: the one given, else the app's, else the default file."""
    if store is not None:
        return store
    if app is not None:
        from taskweave.cli.finding import find_app

        return find_app(app).app.url
    return DEFAULT_STORE


def ask(url: str, question: Callable[[TaskStore], Awaitable[R]]) -> R:
    """Open the store that is there, ask, close. A store that does not exist is an error, never made by asking."""
    import anyio

    from taskweave.connect import connect

    refuse_memory(url)

    async def run() -> R:
        async with connect(url, create=False) as store:
            return await question(store)

    return anyio.run(run)


def refuse_memory(url: str) -> None:
    """Raises InvalidStoreUrl for a store that no other process can reach."""
    if url.startswith("memory:"):
        raise InvalidStoreUrl(url, "a memory store lives in its own process, where no command can look into it")


def confirm(question: str, *, yes: bool) -> None:
    """Go on only after a yes: by option, or by word on a terminal. Raises click's UsageError without a terminal."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} needs --yes when there is no terminal to ask on (or --dry-run to look)")
    click.confirm(f"{question}?", abort=True)
