"""How a store is opened: what stands between is found out, and the schema is brought up, by one connection of its own.

A transaction pooler hands each transaction to another server process, so whatever is kept in a session is lost there:
settings, prepared statements, listening. It gives itself away: the process that answers is not the one that greeted.
"""

from __future__ import annotations

from attrs import frozen

from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Micros
from taskweave.stores._postgres.address import Address
from taskweave.stores._postgres.errors import converted, is_driver_error
from taskweave.stores._postgres.notices import Notices
from taskweave.stores._postgres.pool import Pool, closed, connect
from taskweave.stores._postgres.schema import bring_up
from taskweave.stores._postgres.session import Session


@frozen
class Settings:
    """What a store is opened with."""

    address: Address
    create: bool = True
    read_only: bool = False
    aging_us: Micros | None = None  # None: as the schema has it; 0: none
    payload_bytes_max: int = PAYLOAD_BYTES_MAX

    @property
    def url(self) -> str:
        return self.address.url


async def open_session(settings: Settings) -> Session:
    """The session of an open store. Raises StoreError."""
    address, url = settings.address, settings.url
    try:
        connection = await connect(address, pooled=True)
        try:
            found = await bring_up(
                connection,
                address.namespace,
                url,
                create=settings.create,
                read_only=settings.read_only,
                aging_us=settings.aging_us,
            )
            pooled = found.backend_pid != connection.get_server_pid() if address.pooler is None else address.pooler
        finally:
            await closed(connection)
    except Exception as error:
        if is_driver_error(error):
            raise converted(error, url) from error
        raise
    notices = None if pooled or address.pool_max == 1 else Notices(address, url)
    return Session(Pool(address, pooled=pooled), url, settings.payload_bytes_max, notices)
