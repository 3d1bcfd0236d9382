"""How a store is opened: what stands between is found out, and the schema is brought up, by one connection of its own.

A transaction pooler hands each transaction to another server process, so whatever is kept in a session is lost there:
settings, prepared statements, listening. It gives itself away: the process that answers is not the one that greeted.
"""

from __future__ import annotations

from taskweave.core.ids import Micros
from taskweave.stores._postgres.address import Address
from taskweave.stores._postgres.errors import converted, is_driver_error
from taskweave.stores._postgres.pool import Pool, closed, connect
from taskweave.stores._postgres.schema import bring_up
from taskweave.stores._postgres.session import Session


async def open_session(
    address: Address, create: bool, read_only: bool, aging_us: Micros | None, payload_bytes_max: int
) -> Session:
    """The session of an open store. Raises StoreError."""
    url = address.url
    try:
        connection = await connect(address, pooled=True)
        try:
            found = await bring_up(
                connection, address.namespace, url, create=create, read_only=read_only, aging_us=aging_us
            )
            pooled = found.backend_pid != connection.get_server_pid() if address.pooler is None else address.pooler
        finally:
            await closed(connection)
    except Exception as error:
        if is_driver_error(error):
            raise converted(error, url) from error
        raise
    return Session(Pool(address, pooled=pooled), url, payload_bytes_max)
