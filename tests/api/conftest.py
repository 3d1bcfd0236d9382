"""Apps on each store. A store's dump, before and after, shows that a refusal stored nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taskweave import App


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def app(store_url: str) -> App:
    return App(store_url)


@pytest.fixture
def make_app(store_url: str) -> Callable[..., App]:
    return lambda **settings: App(store_url, **settings)
