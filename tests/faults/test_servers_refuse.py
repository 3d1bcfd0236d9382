"""What a server refuses is a typed error that says what to do, and never what the password is.

Every address here is wrong in one way. Trouble that can pass (nobody listens, no such host) is transient, so workers
wait for it; trouble that cannot (a password, a right, TLS) is not, so that a worker ends and says it. The password of
each server is random: it is looked for in every error, in its causes, and in what the command line says.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import anyio
import pytest
from click.testing import CliRunner
from server_process import free_port
from servers import Server

from taskweave import App
from taskweave.abc import TaskStore
from taskweave.cli import root
from taskweave.connect import connect
from taskweave.core.job import Spec
from taskweave.core.verbs import Count, Enqueue
from taskweave.exceptions import (
    InvalidStoreUrl,
    SchemaTooNew,
    SchemaTooOld,
    StoreError,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
    UnknownOption,
)

pytestmark = pytest.mark.anyio

WRONG = f"wrong {uuid4().hex}"  # a password that no server has
REFUSED, AWAY = (StoreRefused, False), (StoreUnavailable, True)


@pytest.fixture(params=["postgres", "mysql", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, shared_server: Callable[[str], Server]) -> Server:
    return shared_server(kind)


@pytest.fixture
def namespace() -> str:
    return f"refuse_{uuid4().hex[:12]}"


def everything_said(error: BaseException) -> str:
    """The error as text, in every way that it may be shown: its causes, its fields, its notes."""
    seen: list[str] = []
    while True:
        seen += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        inner = error.__cause__ or error.__context__
        if inner is None:
            return "\n".join(seen)
        error = inner


def silent(text: str, *secrets: str) -> None:
    for secret in secrets:
        assert secret not in text
        assert quote(secret, safe="") not in text
        assert secret.replace(" ", "") not in text


async def opened(url: str, **options: Any) -> None:
    async with connect(url, **options) as store:
        await store.apply(Count())


def wrong_addresses(server: Server, namespace: str) -> dict[str, tuple[str, tuple[type[StoreError], bool]]]:
    right = server.url(namespace)
    place = f"@{server.host}:{server.port}/"
    nowhere = {
        "nobody listens": (right.replace(place, f"@127.0.0.1:{free_port()}/"), AWAY),
        "no such host": (right.replace(place, f"@nosuchhost.invalid:{server.port}/"), AWAY),
        "wrong password": (server.url(namespace, password=WRONG), REFUSED),
        "no password": (server.url(namespace, password=""), REFUSED),
        "unknown user": (server.url(namespace, user="stranger"), REFUSED),
    }
    kind = server.kind.scheme
    if kind == "redis":
        nowhere["no such database"] = (right.replace(f"{place}0", f"{place}9999"), REFUSED)
        nowhere["TLS is not spoken"] = (right.replace("redis://", "rediss://"), AWAY)  # it just says nothing
    else:
        missing = right.replace(f"{place}{server.database}", f"{place}nosuchdatabase")
        nowhere["no such database"] = (missing, (StoreMissing, False))
        nowhere["TLS is not spoken"] = (f"{right}&{TLS[kind]}", REFUSED)
    return nowhere


TLS = {"postgres": "sslmode=require", "mysql": "sslmode=require"}
CASES = [
    "nobody listens",
    "no such host",
    "wrong password",
    "no password",
    "unknown user",
    "no such database",
    "TLS is not spoken",
]


@pytest.mark.parametrize("case", CASES)
async def test_a_wrong_address_is_a_typed_error_without_the_password(server: Server, namespace: str, case: str) -> None:
    url, (expected, transient) = wrong_addresses(server, namespace)[case]
    with pytest.raises(StoreError) as caught:
        await opened(url)
    error = caught.value
    assert isinstance(error, expected), f"{type(error).__name__}: {error}"
    assert (error.transient, error.applied) == (transient, "no")
    silent(everything_said(error), server.password, WRONG)
    store = connect(url)
    silent(f"{store!r} {store.url}", server.password, WRONG)


@pytest.mark.parametrize("case", CASES)
def test_the_command_line_says_it_in_one_line_without_the_password(server: Server, namespace: str, case: str) -> None:
    url, _ = wrong_addresses(server, namespace)[case]
    silence = case == "TLS is not spoken" and server.kind.scheme == "redis"  # each would wait for its deadline
    for words in (["queue", "list"], ["store", "init"], ["doctor"])[: 1 if silence else 3]:
        done = CliRunner().invoke(root, [*words, "--store", url])
        assert done.exit_code != 0
        assert "Traceback" not in done.output
        silent(done.output, server.password, WRONG)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("?namespace=Bad-Name", InvalidStoreUrl),
        ("?namespace=", InvalidStoreUrl),
        ("?namespase=jobs", UnknownOption),
        ("?pool=0", InvalidStoreUrl),
        ("?pool=many", InvalidStoreUrl),
        ("#part", InvalidStoreUrl),
    ],
)
def test_a_mistyped_address_is_refused_before_anything_is_opened(server: Server, tail: str, expected: type) -> None:
    with pytest.raises(expected) as caught:
        connect(server.url() + tail)
    silent(everything_said(caught.value), server.password)
    if expected is UnknownOption:
        assert "namespace" in str(caught.value)


async def test_what_is_not_there_is_not_made_when_it_must_not_be(server: Server, namespace: str) -> None:
    for _ in range(2):  # the first one has made nothing
        with pytest.raises(StoreMissing):
            await opened(server.url(namespace), create=False)


# --- rights ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def somebody(server: Server, *, rights: bool) -> AsyncIterator[tuple[str, str]]:
    """A user who may log in, and do what a store needs once it is there, or nothing at all."""
    name, password = f"u{uuid4().hex[:10]}", f"canary {uuid4().hex}"
    kind = server.kind.scheme
    if kind == "postgres":
        server.admin(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        made = [f"DROP OWNED BY {name}", f"DROP ROLE {name}"]
    elif kind == "mysql":
        server.admin(f"CREATE USER {name} IDENTIFIED BY '{password}'")
        grant = "SELECT, INSERT, UPDATE, DELETE ON *.*" if rights else f"SELECT ON `{server.database}`.*"
        server.admin(f"GRANT {grant} TO {name}")
        made = [f"DROP USER {name}"]
    else:
        password = password.replace(" ", "-")  # a command is split at its spaces
        grant = "~* &* +@all -@admin" if rights else "~* &* +@all -@write -@scripting"
        server.admin(f"ACL SETUSER {name} on >{password} {grant}")
        made = [f"ACL DELUSER {name}"]
    try:
        yield name, password
    finally:
        server.admin(*made)


async def test_a_user_who_may_create_nothing_is_refused(server: Server, namespace: str) -> None:
    async with somebody(server, rights=False) as (user, password):
        with pytest.raises(StoreRefused) as caught:
            await opened(server.url(namespace, user=user, password=password))
        silent(everything_said(caught.value), password, server.password)
    with pytest.raises(StoreMissing):
        await opened(server.url(namespace), create=False)


async def test_a_store_of_somebody_else_is_refused_not_broken(server: Server, namespace: str) -> None:
    """The store is there and sound; this user may not touch it."""
    async with own(server, namespace) as store, somebody(server, rights=False) as (user, password):
        with pytest.raises(StoreRefused) as caught:
            async with connect(server.url(namespace, user=user, password=password)) as other:
                await other.apply(Enqueue((Spec("j1", "t", "q", b"[]"),)))
        assert caught.value.applied == "no"
        silent(everything_said(caught.value), password, server.password)
        assert (await store.apply(Count())).queues == ()


@asynccontextmanager
async def own(server: Server, namespace: str) -> AsyncIterator[TaskStore]:
    """A new store, which is gone afterwards, whatever became of its schema."""
    async with connect(server.url(namespace)) as store:
        try:
            yield store
        finally:
            await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


# --- the schema's version -------------------------------------------------------------------------------------------


def set_version(server: Server, namespace: str, version: int) -> None:
    """As another release would have left it."""
    kind = server.kind.scheme
    if kind == "postgres":
        server.admin(f"UPDATE {namespace}.meta SET schema_version = {version}")
    elif kind == "mysql":
        server.admin(f"UPDATE {namespace}_meta SET schema_version = {version}")
    else:
        server.admin(f"HSET {{{namespace}}}:meta version {version}")


async def test_a_newer_schema_is_left_alone(server: Server, namespace: str) -> None:
    async with own(server, namespace) as store:
        await store.apply(Enqueue((Spec("j1", "t", "q", b"[]"),)))
        set_version(server, namespace, 999)
        with pytest.raises(SchemaTooNew) as caught:
            await opened(server.url(namespace))
        assert "999" in str(caught.value)
        words = ["queue", "list", "--store", server.url(namespace)]
        done = await anyio.to_thread.run_sync(lambda: CliRunner().invoke(root, words))
        assert (done.exit_code, "TW1406" in done.output) == (1, True), done.output
        silent(done.output, server.password)


async def test_an_older_schema_is_not_brought_up_by_a_user_who_may_not(server: Server, namespace: str) -> None:
    async with own(server, namespace), somebody(server, rights=True) as (user, password):
        if server.kind.scheme == "postgres":
            server.admin(f"GRANT USAGE ON SCHEMA {namespace} TO {user}")
            server.admin(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {namespace} TO {user}")
        set_version(server, namespace, 0)
        with pytest.raises(SchemaTooOld) as caught:
            await opened(server.url(namespace, user=user, password=password))
        assert (caught.value.transient, caught.value.applied) == (False, "no")
        silent(everything_said(caught.value), password, server.password)


def test_a_worker_ends_when_its_password_is_wrong(server: Server, namespace: str) -> None:
    """It does not wait for what cannot pass."""
    app = App(server.url(namespace, password=WRONG))
    assert WRONG not in repr(app)
    done = CliRunner().invoke(root, ["worker", "ledger_app:app", "--store", server.url(namespace, password=WRONG)])
    assert done.exit_code == 1
    silent(done.output, WRONG, server.password)
