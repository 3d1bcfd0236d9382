"""Jobs in the user's own transaction on servers, by each kind of connection that taskweave accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import pytest
from attrs import define
from transacting import define_in

from taskweave import App, InvalidValue, StoreMissing, TransactionMisused, Unique, UniqueConflict
from taskweave.connect import connect
from taskweave.core.verbs import Enqueue

pytestmark = pytest.mark.anyio


class Undo(Exception):
    pass


@define
class Place:
    """A database on a server: where the jobs are, and a table of the user's beside them."""

    url: str
    table: str

    @property
    def facts(self) -> dict[str, Any]:
        parts = urlsplit(self.url)
        return {
            "host": parts.hostname,
            "port": parts.port,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path[1:]),
        }

    @property
    def namespace(self) -> str:
        return dict(parse_qsl(urlsplit(self.url).query))["namespace"]

    def sqlalchemy(self, dialect: str) -> Any:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        facts = self.facts
        return sqlalchemy.URL.create(
            dialect, facts["user"], facts["password"], facts["host"], facts["port"], facts["database"]
        )

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.table} (n) VALUES (1)"


@asynccontextmanager
async def place_on(kind: str, shared_server: Callable[[str], Any]) -> AsyncIterator[Place]:
    place = Place(str(shared_server(kind).url(f"in_{uuid4().hex[:12]}")), f"mine_{uuid4().hex[:12]}")
    async with connect(place.url) as store:
        await define_in(store, kind, place.url, f"CREATE TABLE {place.table} (n INTEGER NOT NULL)")
        yield place
        await define_in(store, kind, place.url, f"DROP TABLE {place.table}")
        await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


@pytest.fixture
async def postgres(shared_server: Callable[[str], Any]) -> AsyncIterator[Place]:
    async with place_on("postgres", shared_server) as place:
        yield place


@pytest.fixture
async def mysql(shared_server: Callable[[str], Any]) -> AsyncIterator[Place]:
    async with place_on("mysql", shared_server) as place:
        yield place


@pytest.fixture
def asyncio_alone(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """These drivers are asyncio's; on trio the user has no connection of them."""
    if anyio_backend[0] == "trio":
        pytest.skip("a driver of asyncio alone")


@asynccontextmanager
async def app_on(place: Place) -> AsyncIterator[App]:
    app = App(place.url)

    async def note(n: int) -> int:
        return n

    app.task(note, name="note")
    async with app:
        yield app


async def jobs(app: App) -> list[int]:
    return sorted([view.args[0] async for view in app.find()])


async def mine(app: App, place: Place) -> int:
    async with app.store.transaction() as tx:  # type: ignore[attr-defined]  # it transacts
        rows = await tx.fetch(f"SELECT count(*) FROM {place.table}")
    return int(rows[0][0])


# --- PostgreSQL, asynchronous ---------------------------------------------------------------------------------------


@asynccontextmanager
async def own_asyncpg(place: Place) -> AsyncIterator[Any]:
    import asyncpg

    connection = await asyncpg.connect(**place.facts)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def pooled_asyncpg(place: Place) -> AsyncIterator[Any]:
    import asyncpg

    async with (
        asyncpg.create_pool(**place.facts, min_size=1, max_size=1) as pool,
        pool.acquire() as connection,
        connection.transaction(isolation="serializable"),
    ):
        yield connection


def _conninfo(place: Place) -> dict[str, Any]:
    facts = place.facts
    return {**facts, "dbname": facts.pop("database")}


@asynccontextmanager
async def own_psycopg_async(place: Place) -> AsyncIterator[Any]:
    psycopg = pytest.importorskip("psycopg")
    info = _conninfo(place)
    info.pop("database", None)
    async with await psycopg.AsyncConnection.connect(**info, row_factory=psycopg.rows.dict_row) as connection:
        yield connection


@asynccontextmanager
async def sa_asyncpg_session(place: Place) -> AsyncIterator[Any]:
    pytest.importorskip("greenlet")
    url = place.sqlalchemy("postgresql+asyncpg")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(url)
    try:
        async with AsyncSession(engine) as session, session.begin():
            yield session
    finally:
        await engine.dispose()


@asynccontextmanager
async def sa_psycopg_connection(place: Place) -> AsyncIterator[Any]:
    pytest.importorskip("greenlet")
    pytest.importorskip("psycopg")
    url = place.sqlalchemy("postgresql+psycopg")
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def awrite(tx: Any, sql: str) -> None:
    if hasattr(tx, "get_raw_connection"):
        await tx.exec_driver_sql(sql)
    elif hasattr(tx, "sync_session"):
        await (await tx.connection()).exec_driver_sql(sql)
    elif hasattr(tx, "get_autocommit"):  # of asyncmy
        async with tx.cursor() as cursor:
            await cursor.execute(sql)
    else:
        await tx.execute(sql)


ASYNC_POSTGRES = [own_asyncpg, pooled_asyncpg, own_psycopg_async, sa_asyncpg_session, sa_psycopg_connection]


async def commits_or_undoes_both(place: Place, way: Any) -> None:
    async with app_on(place) as app:
        note = app.tasks["note"]
        unique = note.options(unique=Unique(by="n", on_conflict="raise"))
        async with way(place) as tx:
            await note.options(tx=tx).enqueue(1)
            await awrite(tx, place.insert)
            await app.enqueue_many([note.options(tx=tx).call(2), note.options(tx=tx, delay="1h").call(3)])
            await unique.options(tx=tx).enqueue(4)
            with pytest.raises(UniqueConflict):
                await unique.options(tx=tx).enqueue(4)
            assert await jobs(app) == []
        assert await jobs(app) == [1, 2, 3, 4]
        assert await mine(app, place) == 1

        async def undone() -> None:
            async with way(place) as tx:
                await awrite(tx, place.insert)
                await note.options(tx=tx).enqueue(5)
                raise Undo

        with pytest.raises(Undo):
            await undone()
        assert await jobs(app) == [1, 2, 3, 4]
        assert await mine(app, place) == 1


@pytest.mark.parametrize("way", ASYNC_POSTGRES)
@pytest.mark.usefixtures("asyncio_alone")
async def test_an_async_connection_to_postgres_commits_or_undoes_both(postgres: Place, way: Any) -> None:
    await commits_or_undoes_both(postgres, way)


# --- PostgreSQL, synchronous ----------------------------------------------------------------------------------------


@contextmanager
def own_psycopg(place: Place) -> Iterator[Any]:
    psycopg = pytest.importorskip("psycopg")
    info = _conninfo(place)
    info.pop("database", None)
    with psycopg.connect(**info) as connection:
        yield connection


@contextmanager
def sa_psycopg_session(place: Place) -> Iterator[Any]:
    pytest.importorskip("psycopg")
    url = place.sqlalchemy("postgresql+psycopg")
    import sqlalchemy
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(url)
    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


def write(tx: Any, sql: str) -> None:
    if hasattr(tx, "exec_driver_sql"):
        tx.exec_driver_sql(sql)
    elif hasattr(tx, "identity_map"):
        tx.connection().exec_driver_sql(sql)
    elif hasattr(tx, "execute"):
        tx.execute(sql)
    else:
        with tx.cursor() as cursor:
            cursor.execute(sql)


async def sync_commits_or_undoes_both(place: Place, way: Any) -> None:
    """Both ways of calling it: awaited in a loop, though it never waits, and without one, in a thread."""
    import anyio.to_thread

    async with app_on(place) as app:
        note = app.tasks["note"]
        with way(place) as tx:
            await note.options(tx=tx).enqueue(1)
            write(tx, place.insert)
            assert await jobs(app) == []
        assert await jobs(app) == [1]

        def without_a_loop() -> None:
            with way(place) as tx:
                note.options(tx=tx).enqueue_many_sync([(2,), (3,)])
                write(tx, place.insert)
            with way(place) as tx:
                note.options(tx=tx).call(4).enqueue_sync(key="k")
                write(tx, place.insert)
                raise Undo

        with pytest.raises(Undo):
            await anyio.to_thread.run_sync(without_a_loop)
        assert await jobs(app) == [1, 2, 3]
        assert await mine(app, place) == 2


@pytest.mark.parametrize("way", [own_psycopg, sa_psycopg_session])
async def test_a_sync_connection_to_postgres_commits_or_undoes_both(postgres: Place, way: Any) -> None:
    await sync_commits_or_undoes_both(postgres, way)


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("asyncio_alone")
async def test_a_connection_in_no_transaction_is_refused(postgres: Place) -> None:
    import asyncpg

    async with app_on(postgres) as app:
        connection = await asyncpg.connect(**postgres.facts)
        with pytest.raises(InvalidValue, match="begin one first"):
            await app.tasks["note"].options(tx=connection).enqueue(1)
        await connection.close()
        with own_psycopg(postgres) as psycopg:
            psycopg.autocommit = True
            with pytest.raises(InvalidValue, match="begin one first"):
                await app.tasks["note"].options(tx=psycopg).enqueue(1)
            with psycopg.transaction():
                await app.tasks["note"].options(tx=psycopg).enqueue(2)
        with pytest.raises(InvalidValue, match=r"asyncpg or psycopg.*SQLAlchemy"):
            await app.tasks["note"].options(tx=object()).enqueue(1)
        assert await jobs(app) == [2]


@pytest.mark.usefixtures("asyncio_alone")
@pytest.mark.parametrize("way", [own_asyncpg, own_psycopg_async])
async def test_a_database_without_the_schema_is_named_and_the_transaction_goes_on(postgres: Place, way: Any) -> None:
    elsewhere = App(postgres.url.replace(postgres.namespace, "not_there"))

    async def note(n: int) -> None: ...

    task = elsewhere.task(note)
    async with way(postgres) as tx:
        with pytest.raises(StoreMissing, match="no schema of taskweave"):
            await elsewhere.another_store().enqueue_inside(tx, Enqueue((task.call(1).spec(),)))  # type: ignore[attr-defined]  # it can
        await awrite(tx, postgres.insert)
    async with app_on(postgres) as app:
        assert await mine(app, postgres) == 1


@pytest.mark.usefixtures("asyncio_alone")
@pytest.mark.parametrize("way", [own_asyncpg, own_psycopg_async])
async def test_a_transaction_that_has_failed_says_why(postgres: Place, way: Any) -> None:
    async with app_on(postgres) as app:

        async def enqueued() -> None:
            async with way(postgres) as tx:
                with pytest.raises(Exception, match="nowhere"):
                    await awrite(tx, "INSERT INTO nowhere VALUES (1)")
                await app.tasks["note"].options(tx=tx).enqueue(1)

        with pytest.raises(TransactionMisused, match="an earlier statement has failed"):
            await enqueued()
        assert await jobs(app) == []


# --- MySQL ----------------------------------------------------------------------------------------------------------


def _login(place: Place) -> dict[str, Any]:
    facts = place.facts
    return {**facts, "password": facts["password"].encode(), "charset": "utf8mb4"}


@asynccontextmanager
async def own_asyncmy(place: Place) -> AsyncIterator[Any]:
    import asyncmy

    connection = await asyncmy.connect(**_login(place), autocommit=False)
    try:
        yield connection
        await connection.commit()
    finally:
        await connection.ensure_closed()


@asynccontextmanager
async def dict_asyncmy(place: Place) -> AsyncIterator[Any]:
    """In autocommit mode, with a BEGIN of the user's and rows as the user likes them."""
    import asyncmy
    import asyncmy.cursors

    connection = await asyncmy.connect(**_login(place), autocommit=True, cursor_cls=asyncmy.cursors.DictCursor)
    try:
        await connection.begin()
        yield connection
        await connection.commit()
    finally:
        await connection.ensure_closed()


@asynccontextmanager
async def sa_asyncmy_session(place: Place) -> AsyncIterator[Any]:
    pytest.importorskip("greenlet")
    url = place.sqlalchemy("mysql+asyncmy")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(url, connect_args={"password": place.facts["password"].encode()})
    try:
        async with AsyncSession(engine) as session, session.begin():
            yield session
    finally:
        await engine.dispose()


@contextmanager
def own_pymysql(place: Place) -> Iterator[Any]:
    pymysql = pytest.importorskip("pymysql")
    connection = pymysql.connect(**_login(place), cursorclass=pymysql.cursors.DictCursor)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


@contextmanager
def sa_pymysql_session(place: Place) -> Iterator[Any]:
    pytest.importorskip("pymysql")
    url = place.sqlalchemy("mysql+pymysql")
    import sqlalchemy
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(url, connect_args={"password": place.facts["password"].encode()})
    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


@pytest.mark.parametrize("way", [own_asyncmy, dict_asyncmy, sa_asyncmy_session])
@pytest.mark.usefixtures("asyncio_alone")
async def test_an_async_connection_to_mysql_commits_or_undoes_both(mysql: Place, way: Any) -> None:
    await commits_or_undoes_both(mysql, way)


@pytest.mark.parametrize("way", [own_pymysql, sa_pymysql_session])
async def test_a_sync_connection_to_mysql_commits_or_undoes_both(mysql: Place, way: Any) -> None:
    await sync_commits_or_undoes_both(mysql, way)


@pytest.mark.usefixtures("asyncio_alone")
async def test_what_mysql_cannot_do_inside_is_refused(mysql: Place) -> None:
    import asyncmy

    async with app_on(mysql) as app:
        note = app.tasks["note"]
        connection = await asyncmy.connect(**_login(mysql), autocommit=True)
        with pytest.raises(InvalidValue, match="begin one first"):
            await note.options(tx=connection).enqueue(1)
        await connection.ensure_closed()
        latin = await asyncmy.connect(**{**_login(mysql), "charset": "latin1"}, autocommit=False)
        with pytest.raises(InvalidValue, match="utf8mb4"):
            await note.options(tx=latin).enqueue(1)
        await latin.ensure_closed()
        with pytest.raises(InvalidValue, match=r"asyncmy or PyMySQL.*SQLAlchemy"):
            await note.options(tx=object()).enqueue(1)
        elsewhere = App(mysql.url.replace(mysql.namespace, "not_there"))
        async with own_asyncmy(mysql) as tx:
            with pytest.raises(StoreMissing, match="no tables of taskweave"):
                await elsewhere.another_store().enqueue_inside(tx, Enqueue(()))  # type: ignore[attr-defined]  # it can
            await awrite(tx, mysql.insert)
        assert await mine(app, mysql) == 1


@pytest.mark.parametrize("sql", ["CREATE TABLE x (n INT)", "/* why */ alter table x add m int", "SET autocommit = 1"])
async def test_ddl_is_refused_before_it_commits_half_of_the_block(mysql: Place, sql: str) -> None:
    async with app_on(mysql) as app:

        async def block() -> None:
            async with app.store.transaction() as tx:  # type: ignore[attr-defined]  # it transacts
                await tx.execute(mysql.insert)
                await tx.execute(sql)

        with pytest.raises(TransactionMisused, match="would commit"):
            await block()
        assert await mine(app, mysql) == 0
        async with app.store.transaction() as tx:  # type: ignore[attr-defined]  # it transacts
            await tx.execute("CREATE TEMPORARY TABLE passing (n INTEGER)")
            (row,) = await tx.fetch("SELECT 1 AS one, %s AS two", "zwei")
        assert (row[0], row["two"], tuple(row), list(row.keys()), len(row)) == (
            1,
            "zwei",
            (1, "zwei"),
            ["one", "two"],
            2,
        )
