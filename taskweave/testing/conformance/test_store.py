"""What pytest collects: one test for each check of the suite, of the store named by --store.

The suite is run once, with the first test; each test then tells how its own check ended. A check that was not asked,
because the store lacks the ability, is a skip with the reason.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import SkipTest

import anyio

from taskweave.exceptions import AppNotFound
from taskweave.testing.certificate import Certificate
from taskweave.testing.places import maker_named
from taskweave.testing.suite import check_store

_certificates: dict[str, Certificate] = {}


def test_the_store_keeps_its_promise(taskweave_promise: str, request: Any) -> None:
    certificate = _certificate(request.config)
    found = [outcome for outcome in certificate.outcomes if outcome.name == taskweave_promise]
    if not found:
        raise SkipTest("; ".join(f"{each.ability}: {each.reason}" for each in certificate.skipped))
    (outcome,) = found
    if outcome.problem is not None:
        raise AssertionError(outcome.problem)


def _certificate(config: Any) -> Certificate:
    """That of the store that the command line names. Raises AppNotFound where it names none."""
    target: str | None = config.getoption("taskweave_store")
    if target is None:
        raise AppNotFound("--store", "the option is missing: --store mypkg:make_store")
    if target not in _certificates:
        check = partial(check_store, maker_named(target), level=config.getoption("taskweave_level"))
        _certificates[target] = anyio.run(check, backend=config.getoption("taskweave_backend"))
    return _certificates[target]
