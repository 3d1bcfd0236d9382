"""One profile for all properties, the same examples at every run, so that a failure is a fact and not a mood.

Walks that need a loop run on every loop through `anyio_backend`, as in tests/conftest.py.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("taskweave", derandomize=True, deadline=None)
settings.load_profile("taskweave")

BACKENDS: dict[str, tuple[str, dict[str, object]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=os.environ.get("TASKWEAVE_TEST_BACKENDS", "asyncio,trio").split(","))
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return BACKENDS[request.param]
