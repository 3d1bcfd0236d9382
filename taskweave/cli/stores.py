"""taskweave store: make a store, bring it up to date, look whether it is whole, print its SQL."""

from __future__ import annotations

import click


@click.group()
def store() -> None:
    """Create, migrate and check a store; print its SQL."""
