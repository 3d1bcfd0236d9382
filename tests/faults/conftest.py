from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_of_workers import Site


@pytest.fixture
def site(tmp_path: Path, anyio_backend: tuple[str, dict[str, Any]]) -> Iterator[Site]:
    name, options = anyio_backend
    site = Site(tmp_path, "uvloop" if options.get("use_uvloop") else name)
    yield site
    site.end()
