"""How a store is opened: the server is asked what it is and what it takes, and the schema is brought up."""

from __future__ import annotations

from typing import Final

from taskweave.core.ids import Micros
from taskweave.exceptions import StoreRefused
from taskweave.stores._mysql.address import Address
from taskweave.stores._mysql.driver import Connection
from taskweave.stores._mysql.errors import converted, is_driver_error
from taskweave.stores._mysql.link import BYTES_MAX, MySQLLink
from taskweave.stores._mysql.pool import Pool, closed, is_mariadb
from taskweave.stores._mysql.schema import bring_up
from taskweave.stores._mysql.session import Session

MARIADB_OLDEST: Final = (10, 6)
MYSQL_OLDEST: Final = (8, 0, 17)


async def open_session(
    address: Address, create: bool, read_only: bool, aging_us: Micros | None, payload_bytes_max: int
) -> Session:
    """The session of an open store. Raises StoreError."""
    url = address.url
    try:
        pool = Pool(address)
        connection = await pool.take()
        try:
            _check_version(connection, url)
            found = await bring_up(
                connection, address.namespace, url, create=create, read_only=read_only, aging_us=aging_us
            )
            ((packet,),) = await MySQLLink(connection, {}).run(b"SELECT @@max_allowed_packet")
        except BaseException:
            await closed(connection)
            raise
        pool.give_back(connection)
    except Exception as error:
        if is_driver_error(error):
            raise converted(error, url) from error
        raise
    bytes_max = min(BYTES_MAX, int(packet) // 2)
    return Session(pool, url, payload_bytes_max, found.collation, bytes_max, int(packet))


def _check_version(connection: Connection, url: str) -> None:
    """Refuse a server that lacks SKIP LOCKED or JSON_TABLE. Raises StoreRefused."""
    said = connection.get_server_info()
    oldest, name = (MARIADB_OLDEST, "MariaDB") if is_mariadb(connection) else (MYSQL_OLDEST, "MySQL")
    version = version_of(said)
    if version < oldest:
        wanted = ".".join(map(str, oldest))
        raise StoreRefused(url, f"the server is {name} {said[:40]}; {wanted} is the oldest that works")


def version_of(said: str) -> tuple[int, ...]:
    """(10, 11, 6) for "10.11.6-MariaDB", also where it is written "5.5.5-10.11.6-MariaDB"."""
    numbers = said.removeprefix("5.5.5-").partition("-")[0].split(".")
    return tuple([int(number) for number in numbers if number.isdigit()])
