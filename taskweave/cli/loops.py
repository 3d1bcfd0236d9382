"""Which event loop a command runs on: asyncio, uvloop or trio, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click

from taskweave.exceptions import MissingExtra

R = TypeVar("R")

_EXTRAS: Final = {"trio": "trio", "uvloop": "fast"}

backend_option = click.option(
    "--backend",
    type=click.Choice(["asyncio", "trio", "uvloop"]),
    default="asyncio",
    show_default=True,
    help="The event loop to run on.",
)


def run_on(backend: str, main: Callable[[], Awaitable[R]]) -> R:
    """Run `main` on this loop and return what it returns. Raises MissingExtra where the loop is not installed."""
    import anyio

    if backend in _EXTRAS and importlib.util.find_spec(backend) is None:
        raise MissingExtra(f"--backend {backend}", _EXTRAS[backend])
    options: dict[str, Any] = {"use_uvloop": True} if backend == "uvloop" else {}
    return anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
