"""taskweave conformance: asks on a file of its own, says what it found, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broken import BROKEN
from click.testing import Result

from taskweave.cli import conformance as command
from taskweave.core.verbs import Enqueue, TakeDump
from taskweave.stores.sqlite import SQLiteTaskStore
from taskweave.testing.pair import Pair

Invoke = Callable[..., Result]


@pytest.mark.proves(26)
def test_it_asks_beside_the_jobs_that_are_there(invoke: Invoke, folder: Path) -> None:
    import anyio

    async def jobs(add: bool) -> int:
        async with SQLiteTaskStore("jobs.db") as store:
            if add:
                await store.apply(Enqueue((Pair(store).new(),)))
            return len((await store.apply(TakeDump())).jobs)

    assert anyio.run(jobs, True) == 1
    before = sorted(path.name for path in folder.iterdir())
    done = invoke("conformance", "--store", "sqlite:///jobs.db", "--level", "basic", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["passed"], said["level_reached"], said["store"]) == (True, "basic", "sqlite:///jobs.db")
    assert len(said["checks"]) > 400
    assert {check["outcome"] for check in said["checks"]} == {"passed"}
    assert anyio.run(jobs, False) == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_it_names_the_promises_that_are_broken(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def maker_at(url: str) -> Any:
        return BROKEN["CutsTexts"]

    monkeypatch.setattr(command, "maker_at", maker_at)
    done = invoke("conformance", "--store", "memory://", "--level", "basic")
    assert done.exit_code == 1
    assert "failed   texts_with_nul_come_back" in done.stdout
    assert "broken: texts_with_nul_come_back" in done.stderr


def test_a_wrong_address_is_one_line(invoke: Invoke) -> None:
    done = invoke("conformance", "--store", "nothing://x")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
