from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from servers import Server
from site_of_workers import Site, loop_of


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    anyio_backend: tuple[str, dict[str, Any]],
    shared_server: Callable[[str], Server],
) -> Iterator[Site]:
    """Workers on a file; or, parametrized indirectly with a kind of server, in a namespace of their own on it."""
    kind = getattr(request, "param", "sqlite")
    url = None if kind == "sqlite" else shared_server(kind).url(f"site_{uuid4().hex[:12]}")
    site = Site(tmp_path, loop_of(anyio_backend), url)
    yield site
    site.end()
    if url is not None:
        anyio.run(_drop, site)


async def _drop(site: Site) -> None:
    async with site.store() as store:
        await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers
