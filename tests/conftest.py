"""Every async test runs on every loop through the one `anyio_backend` fixture (anyio's own plugin).

TASKWEAVE_TEST_BACKENDS names the loops. TASKWEAVE_TEST_ONLY_LOOPS leaves out the tests that use none: where the suite
runs once for each loop, they need to run but once.
"""

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("TASKWEAVE_TEST_ONLY_LOOPS"):
        looped = [item for item in items if "anyio_backend" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=list(set(items).difference(looped)))
        items[:] = looped
