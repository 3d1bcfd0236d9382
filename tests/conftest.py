"""Every async test runs on every loop through the one `anyio_backend` fixture (anyio's own plugin)."""

from __future__ import annotations

import os

import pytest

BACKENDS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def _wanted() -> list[str]:
    return os.environ.get("TASKWEAVE_TEST_BACKENDS", "asyncio,trio").split(",")


@pytest.fixture(params=_wanted())
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return BACKENDS[request.param]
