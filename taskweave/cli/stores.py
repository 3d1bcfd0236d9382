"""taskweave store: make a store, bring it up to date, look whether it is whole, print its SQL."""

from __future__ import annotations

import click

from taskweave.cli.output import emit_json, say
from taskweave.cli.reach import address, json_option, store_options


@click.group()
def store() -> None:
    """Create, migrate and check a store; print its SQL."""
