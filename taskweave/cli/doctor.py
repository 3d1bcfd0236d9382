"""taskweave doctor: what is wrong, and what to do about it. Exit code 1 when something is.

Each check is a function of facts that were gathered before, and answers findings: ok, warning, or problem, with the
remedy. What cannot be looked at (a store that does not open) is a finding itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click
from attrs import asdict

from taskweave._runtime.env import SystemEnv
from taskweave.abc import TaskStore
from taskweave.cli.findings import Finding, Seen, machine, store_findings
from taskweave.cli.jobs import find_jobs
from taskweave.cli.output import emit_json, say
from taskweave.cli.reach import address, ask, json_option, store_options
from taskweave.cli.stores import facts_of, problems_of
from taskweave.core.job import State
from taskweave.core.verbs import Count, Find
from taskweave.exceptions import TaskweaveError

RUNNING_LOOKED_AT: Final = 1_000


@click.command()
@json_option
@store_options
def doctor(as_json: bool, store: str | None, app: str | None) -> None:
    """Look at this machine, the store and its queues; say what is wrong and what to do."""
    findings = list(machine())
    try:
        seen = ask(address(store, app), look)
    except TaskweaveError as error:
        findings.append(Finding("store", "problem", str(error), f"taskweave explain {error.code}"))
    else:
        findings += store_findings(seen)
    bad = [finding for finding in findings if finding.level == "problem"]
    if as_json:
        emit_json({"findings": [asdict(finding) for finding in findings], "problems": len(bad)})
    else:
        _show(findings)
    if bad:
        click.get_current_context().exit(1)


def _show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        say(f"{finding.level:<8} {finding.check:<12} {finding.text}")
        if finding.remedy:
            say(f"{'':<8} {'':<12} → {finding.remedy}")
    bad = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    say(f"\n{bad or 'no'} problem{'s' * (bad != 1)}, {warnings or 'no'} warning{'s' * (warnings != 1)}")


async def look(store: TaskStore) -> Seen:
    """Gather everything that the checks need. Raises StoreError."""
    stats = await store.apply(Count())
    running, _ = await find_jobs(store, Find((State.RUNNING,)), RUNNING_LOOKED_AT)
    newest, _ = await find_jobs(store, Find(), 1)
    facts, problems = await facts_of(store), await problems_of(store)
    return Seen(store.url, facts, problems, stats, running, newest[0] if newest else None, SystemEnv().wall())
