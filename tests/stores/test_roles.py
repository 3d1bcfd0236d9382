"""The roles that taskweave ships have the rights that their name promises, and no others, on the servers themselves."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import servers
from click.testing import CliRunner
from every_kind import LEASE_US, claim, fill, spec
from server_fixtures import required
from servers import Server

from taskweave.abc import TaskStore
from taskweave.cli import root
from taskweave.connect import connect
from taskweave.core.job import Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Export,
    Find,
    How,
    Load,
    Maintain,
    Op,
    PauseQueue,
    Prune,
    PurgeQueue,
    Restore,
    RetryJobs,
    Settlement,
    UpdateJob,
)
from taskweave.exceptions import StoreMissing, StoreRefused

pytestmark = pytest.mark.anyio

PASSWORD = "a-word-7"
SQL = ("postgres", "mysql")
CHANGES: list[Op[Any]] = [
    CancelJobs(("ready",)),
    RetryJobs(("bad",)),
    DeleteJobs(("good",)),
    UpdateJob("first", priority=3),
    Prune(0),
    PurgeQueue("q"),
    Exchange("m", "no", 1, ("q",), ("t",), LEASE_US),
]


class Site:
    """A server with a store that holds a job of every kind, and a user for each role."""

    numbers = itertools.count()

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kind = server.kind.name
        self.namespace = f"roles_{next(self.numbers)}"

    def url(self, role: str = "") -> str:
        if not role:
            return self.server.url(self.namespace)
        return self.server.url(self.namespace, user=self.user(role), password=PASSWORD)

    def user(self, role: str) -> str:
        return f"{self.namespace}_{role}{'' if self.kind == 'redis' else '_user'}"

    def script(self) -> str:
        """What `taskweave store sql --roles` prints for this namespace."""
        result = CliRunner().invoke(root, ["store", "sql", "--roles", "--store", self.url()])
        assert result.exit_code == 0, result.output
        assert self.server.password not in result.output
        return result.stdout

    def run(self, text: str) -> None:
        """As an administrator hands it to psql, mariadb or redis-cli."""
        if self.kind != "postgres":
            end = "\n" if self.kind == "redis" else ";\n"
            lines = "\n".join(line for line in text.splitlines() if not line.startswith("--")) + "\n"
            self.server.admin(*[statement for statement in lines.split(end) if statement.strip()])
            return

        async def whole() -> None:
            connection = await self.server.kind.connect(self.server)
            try:
                await connection.execute(text)
            finally:
                await connection.close()

        asyncio.run(whole())

    def make_users(self) -> None:
        """One user for each role, with its rights alone."""
        text = self.script()
        if self.kind == "redis":
            for word in ("CHANGE-THIS-1", "CHANGE-THIS-2"):
                text = text.replace(word, PASSWORD)
            self.run(text)
            return
        self.run(text)
        self.run(text)  # after a migration it is run again
        for role in ("owner", "worker", "producer", "reader"):
            name, user = f"{self.namespace}_{role}", self.user(role)
            if self.kind == "postgres":
                self.run(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}' IN ROLE {name}")
            else:
                self.run(f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}';\n")
                self.run(f"GRANT {name} TO {user}@'%';\n")
                self.run(f"SET DEFAULT ROLE {name} FOR {user}@'%';\n")

    def ask(self, role: str, statement: str) -> None:
        """Past taskweave, with the user's own connection to the server."""
        url = self.server.url(user=self.user(role), password=PASSWORD)
        Server.at(self.server.kind, url).admin(statement)


@pytest.fixture(scope="module", params=["postgres", "mysql", "redis"])
def private(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Users are the whole server's, so it is the tests' own."""
    required(request.param, private=True)
    with servers.private(request.param) as server:
        yield server


@pytest.fixture
def site(private: Server) -> Site:
    made = Site(private)

    async def fill_it() -> None:
        async with connect(made.url()) as store:
            await fill(store)

    asyncio.run(fill_it())
    made.make_users()
    return made


@pytest.fixture
def sql_site(site: Site) -> Site:
    """Where users have roles of any fineness."""
    if site.kind == "redis":
        pytest.skip("a script of Redis either may write the namespace's keys or may not")
    return site


@asynccontextmanager
async def as_role(site: Site, role: str, **options: Any) -> AsyncGenerator[TaskStore]:
    async with connect(site.url(role), **options) as store:
        yield store


async def refused(store: TaskStore, *ops: Op[Any]) -> None:
    """Each of these, with an error that says so, keeps its words to itself, and is not worth a second try."""
    before = await store.apply(Export())
    for op in ops:
        with pytest.raises(StoreRefused) as caught:
            await store.apply(op)
        assert not caught.value.transient, op
        assert PASSWORD not in str(caught.value)
    assert (await store.apply(Export())).jobs == before.jobs


async def reads(store: TaskStore) -> None:
    stats = await store.apply(Count())
    assert sum(number for queue in stats.queues for _, number in queue.counts) >= 16
    assert len((await store.apply(Find())).jobs) >= 16
    (job,) = await store.apply(Load(("good",)))
    assert job is not None
    assert job.life.end is not None


@pytest.mark.proves(131)
async def test_a_worker_does_all_that_workers_do(site: Site) -> None:
    async with as_role(site, "worker", aging="10s") as store:
        await reads(store)
        await fill(store, "mine-", pause=False)
        twin = spec("twin", unique=UniqueKey("mine-k", on_conflict="replace"), payload=b"new")
        (answer,) = await store.apply(Enqueue((twin,)))
        assert (answer.id, answer.how) == ("mine-unique", How.REPLACED)
        lease, *_ = await claim(store, 3, "mine-q", "mine-")
        end = Settlement(lease.id, lease.fence, Verb.FAIL, spawn=(spec("child"),))
        assert not (await store.apply(Exchange("m", "end", 2, ("q",), ("t",), LEASE_US, (end,)))).refused
        await store.apply(CancelJobs(("mine-ready", "mine-later")))
        await store.apply(RetryJobs(("mine-bad",)))
        await store.apply(UpdateJob("mine-first", priority=9))
        page = await store.apply(Export())
        await store.apply(DeleteJobs(("mine-good",)))
        await store.apply(Restore(tuple([job for job in page.jobs if job.id == "mine-good"])))
        await store.apply(Maintain(LEASE_US))
        await store.apply(PurgeQueue("mine-q"))
        await store.apply(Prune(0))


@pytest.mark.proves(131)
async def test_a_worker_changes_no_table(sql_site: Site) -> None:
    site = sql_site
    place = f"{site.namespace}." if site.kind == "postgres" else f"{site.namespace}_"
    async with as_role(site, "worker") as store:
        await refused(store, PauseQueue("q"))
        with pytest.raises(StoreRefused):
            await store.drop()  # type: ignore[attr-defined]  # every store on a server has it
        await reads(store)
    for statement in (f"CREATE TABLE {place}mine (a integer)", f"DROP TABLE {place}job", f"TRUNCATE {place}job"):
        with pytest.raises(Exception, match=r"(?i)denied|must be owner"):
            await anyio.to_thread.run_sync(site.ask, "worker", statement)


@pytest.mark.proves(131)
async def test_a_producer_enqueues_and_does_nothing_else(sql_site: Site) -> None:
    async with as_role(sql_site, "producer") as store:
        await reads(store)
        specs = (spec("plain"), spec("delayed", delay_us=5), spec("tagged", tags=(("a", "b"),)))
        assert [each.how for each in await store.apply(Enqueue(specs))] == [How.CREATED] * 3
        assert [each.how for each in await store.apply(Enqueue(specs))] == [How.EXISTING] * 3
        new, there = spec("new", unique=UniqueKey("new")), spec("other", unique=UniqueKey("k"))
        answers = await store.apply(Enqueue((new, there)))
        assert [(each.id, each.how) for each in answers] == [("new", How.CREATED), ("unique", How.EXISTING)]
        replacing = spec("more", unique=UniqueKey("k", on_conflict="replace"))
        await refused(store, Enqueue((replacing,)), PauseQueue("q"), *CHANGES)


@pytest.mark.proves(131)
async def test_a_reader_looks_and_does_nothing_else(site: Site) -> None:
    for options in ({}, {"create": False}):
        async with as_role(site, "reader", **options) as store:
            await reads(store)
            await refused(store, Enqueue((spec("no"),)), PauseQueue("no"), *CHANGES)
    listing = ["job", "list", "--store", site.url("reader")]
    result = await anyio.to_thread.run_sync(CliRunner().invoke, root, listing)
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output


@pytest.mark.proves(131)
@pytest.mark.parametrize("role", ["worker", "reader"])
async def test_the_doctor_needs_no_more_rights_than_they_have(site: Site, role: str) -> None:
    examined = ["doctor", "--json", "--store", site.url(role)]
    result = await anyio.to_thread.run_sync(CliRunner().invoke, root, examined)
    findings = {finding["check"]: finding["level"] for finding in json.loads(result.stdout)["findings"]}
    assert (findings["store"], findings["schema"]) == ("ok", "ok"), result.output
    assert PASSWORD not in result.output


@pytest.mark.proves(131)
async def test_users_of_redis_may_not_touch_the_server(site: Site) -> None:
    if site.kind != "redis":
        pytest.skip("of Redis' commands")
    for command in ("FLUSHALL", "CONFIG SET save x", "KEYS *", "SHUTDOWN NOSAVE", "SET {other}:a b"):
        for role in ("worker", "reader"):
            with pytest.raises(Exception, match=r"(?i)no permissions"):
                await anyio.to_thread.run_sync(site.ask, role, command)


@pytest.mark.proves(131)
async def test_an_owner_pauses_and_drops(sql_site: Site) -> None:
    async with as_role(sql_site, "owner") as store:
        assert await store.apply(PauseQueue("q"))
        await store.drop()  # type: ignore[attr-defined]  # every store on a server has it


@pytest.mark.proves(131)
async def test_a_user_reaches_its_namespace_alone(site: Site) -> None:
    other = Site(site.server)
    async with connect(other.url()) as store:
        await store.apply(Enqueue((spec("secret"),)))
    for role in ("worker", "reader"):
        with pytest.raises((StoreRefused, StoreMissing)):
            async with connect(site.server.url(other.namespace, user=site.user(role), password=PASSWORD)):
                pass
