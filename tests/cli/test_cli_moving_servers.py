"""Copies, backups and restores between stores of every kind: whatever one store holds, any other holds alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import Result
from every_kind import fill, spec
from servers import Server

from taskweave import connect
from taskweave.core.verbs import Enqueue, Export

Invoke = Callable[..., Result]
Ask = Callable[[str], Server]

A, B = "sqlite:///a.db", "sqlite:///b.db"
MANY = 10_000
SERVERS = ["postgres", "mysql", "redis"]
_numbers = itertools.count()


@pytest.fixture
def namespace(shared_server: Ask) -> Any:
    """`namespace("redis")`: the address of a namespace of the test's own, gone when it ends."""
    urls: list[str] = []

    def ask(kind: str) -> str:
        urls.append(shared_server(kind).url(f"moving_{next(_numbers)}"))
        return urls[-1]

    yield ask
    for url in urls:
        anyio.run(dropped, url)


async def dropped(url: str) -> None:
    async with connect.connect(url) as store:
        await store.drop()  # type: ignore[attr-defined]  # every store on a server has it


def outcome(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["equal"]
    return document


def make(url: str, jobs: int = 0, **options: Any) -> None:
    async def run() -> None:
        async with connect.connect(url, **options) as store:
            await fill(store)
            for start in range(0, jobs, 1_000):
                await store.apply(Enqueue(tuple([spec(f"many{start + each}", queue="many") for each in range(1_000)])))

    anyio.run(run)


@pytest.mark.proves(26)
@pytest.mark.parametrize("kind", SERVERS)
def test_ten_thousand_jobs_are_the_same_on_a_server(
    invoke: Invoke, folder: Path, namespace: Callable[[str], str], kind: str
) -> None:
    make(A, MANY, aging="10s")
    url = namespace(kind)
    there = outcome(invoke("store", "copy", A, url, "--json"))
    assert there["stored"] == there["target"]["jobs"] > MANY
    assert there["source"] == there["target"]
    back = outcome(invoke("store", "copy", url, B, "--json"))
    assert back["target"] == there["source"]

    async def settings(url: str) -> tuple[Any, ...]:
        async with connect.connect(url) as store:
            page = await store.apply(Export(limit=1))
            return page.paused, page.aging_us

    assert anyio.run(settings, A) == anyio.run(settings, url) == anyio.run(settings, B) == (("paused",), 10_000_000)


@pytest.mark.proves(26)
@pytest.mark.parametrize(("one", "other"), [*itertools.permutations(SERVERS, 2)])
def test_jobs_go_from_any_server_to_any_other(
    invoke: Invoke, folder: Path, namespace: Callable[[str], str], one: str, other: str
) -> None:
    source, target = namespace(one), namespace(other)
    make(source)
    assert outcome(invoke("store", "copy", source, target, "--json"))["existing"] == 0
    assert outcome(invoke("store", "copy", source, target, "--json"))["stored"] == 0


@pytest.mark.proves(131)
@pytest.mark.parametrize("kind", SERVERS)
def test_a_backup_of_a_server_is_restored_anywhere(
    invoke: Invoke, folder: Path, namespace: Callable[[str], str], shared_server: Ask, kind: str
) -> None:
    url, again = namespace(kind), namespace(kind)
    make(url)
    result = invoke("backup", url, "file.gz")
    assert result.exit_code == 0, result.output
    for target in (A, again):
        assert outcome(invoke("restore", "file.gz", target, "--json"))["existing"] == 0
    password = shared_server(kind).password
    assert password not in result.output
    assert password not in invoke("restore", "file.gz", A, "--dry-run").output
