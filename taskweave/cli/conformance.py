"""taskweave conformance: ask a store whether it keeps its promises, on a namespace of its own.

Existing jobs are never touched: a server gets a namespace beside the given one, a file a file beside it, and both are
removed at the end. Exit code 1 when the store breaks a promise, or the level was not reached.
"""

from __future__ import annotations

from functools import partial

import click

from taskweave.cli.loops import backend_option, run_on
from taskweave.cli.output import emit_json, say
from taskweave.cli.reach import address, json_option, store_options
from taskweave.testing.certificate import LEVELS, Level, Outcome
from taskweave.testing.places import maker_at
from taskweave.testing.suite import check_store


@click.command()
@click.option("--level", type=click.Choice(LEVELS), default="concurrent", show_default=True, help="How much to ask.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random walks.")
@backend_option
@json_option
@store_options
def conformance(level: Level, seed: int, backend: str, as_json: bool, store: str | None, app: str | None) -> None:
    """Ask a store whether it keeps every promise, beside the jobs that it holds and without touching them."""
    check = partial(check_store, maker_at(address(store, app)), level=level, seed=seed, report=_report)
    certificate = run_on(backend, check)
    if as_json:
        emit_json(certificate.to_json())
    else:
        say(certificate.summary())
    if not certificate.passed:
        click.get_current_context().exit(1)


def _report(outcome: Outcome) -> None:
    """A promise that is broken is told at once; the rest comes at the end."""
    if outcome.problem is not None:
        click.echo(f"broken: {outcome.name}", err=True)
