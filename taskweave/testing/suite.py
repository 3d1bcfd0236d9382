"""check_store: whether a store means what the queue machine means, as a certificate that lists every check.

Levels
  basic        each check alone with the store, beside the machine (taskweave.testing.checks)
  concurrent   sixteen clients at once, several stores on the same jobs; their history is judged afterwards
  faults       the same while hooks of `make_store` restart the server, kill it, or cut its connections

The sequential checks share one namespace, emptied in between, since making one is dear on a server; a check that
failed leaves it for a fresh one. An ability that the store does not implement is skipped, and the certificate says so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from taskweave._runtime.env import SystemEnv
from taskweave.abc import TaskStore
from taskweave.exceptions import InvalidValue
from taskweave.testing.certificate import LEVELS, Certificate, Level, Outcome, Skipped
from taskweave.testing.checks.registry import Check, checks
from taskweave.testing.concurrent import check_concurrent, concurrent_names
from taskweave.testing.faults import check_faults, faults_names
from taskweave.testing.pair import Pair
from taskweave.testing.places import MakeStore
from taskweave.testing.several import CHECKS, NotAsked, check_several
from taskweave.testing.skipping import abilities_missing, hooks_missing

Report: TypeAlias = Callable[[Outcome], object]

PROBLEM_CHARS_MAX: Final = 600


async def check_store(
    make_store: MakeStore,
    *,
    level: Level = "concurrent",
    seed: int = 0,
    report: Report | None = None,
    only: Callable[[str], bool] | None = None,
) -> Certificate:
    """Return which promises the store keeps; it has kept all of them where `certificate.passed`.

    `make_store(namespace)` is an async context manager: a store, opened where nobody else's jobs are, and removed at
    its end. The same `seed` asks the same random questions. `report` is told of each outcome as it comes; `only`
    chooses checks by name. Raises InvalidValue for another level; what a store does wrong is no
    exception but an outcome.
    """
    if level not in LEVELS:
        raise InvalidValue("level", level, "'basic', 'concurrent' or 'faults'")
    run = _Run(make_store, seed, report, only)
    await run.sequential([check for check in checks() if only is None or only(check.name)])
    await run.together("basic", check_several)
    skipped = [*run.skipped]
    if level != "basic":
        await run.together("concurrent", check_concurrent)
    if level == "faults":
        missing = hooks_missing(make_store)
        skipped += missing
        if not missing:
            await run.together("faults", check_faults)
    return Certificate(run.url, _backend(), version("taskweave"), level, seed, tuple(run.outcomes), tuple(skipped))


def names(level: Level) -> list[str]:
    """The names of all checks of a level and of those below it."""
    found = [*(check.name for check in checks()), *CHECKS]
    if level != "basic":
        found += concurrent_names()
    if level == "faults":
        found += faults_names()
    return found


def _backend() -> str:
    from anyio.lowlevel import current_token

    return "trio" if "trio" in current_token().backend_class.__module__ else "asyncio"


class _Run:
    """One run of the suite: the namespaces that it has used, and what it has found so far."""

    def __init__(
        self, make_store: MakeStore, seed: int, report: Report | None, only: Callable[[str], bool] | None
    ) -> None:
        self.make_store = make_store
        self.seed = seed
        self.report = report
        self.only = only
        self.url = ""
        self.outcomes: list[Outcome] = []
        self.skipped: list[Skipped] = []
        self._env = SystemEnv()
        self._token = self._env.new_id().replace("-", "")[-12:]
        self._namespaces = 0

    @asynccontextmanager
    async def fresh(self) -> AsyncGenerator[TaskStore]:
        """A store on a namespace of its own."""
        self._namespaces += 1
        namespace = f"conformance_{self._token}_{self._namespaces}"
        async with self.make_store(namespace) as store:
            self.url = re.sub(rf"[.?&](namespace=)?{namespace}", "", store.url)  # where it is, not under which name
            self.skipped = self.skipped or abilities_missing(store)
            yield store

    async def sequential(self, wanted: list[Check]) -> None:
        async with AsyncExitStack() as exits:
            pair: Pair | None = None
            for check in wanted:
                if pair is None:
                    await exits.aclose()
                    pair = Pair(await exits.enter_async_context(self.fresh()), seed=self.seed)
                if not await self.judged("basic", check.name, check.proves, _cleared(check, pair)):
                    pair = None

    async def together(self, level: Level, checks: Any) -> None:
        """Checks that open stores themselves: an async generator of (name, guarantees, what to await)."""
        async for name, proves, run in checks(self):
            if self.only is None or self.only(name):
                await self.judged(level, name, proves, run)

    async def judged(self, level: Level, name: str, proves: tuple[str, ...], run: Callable[[], Any]) -> bool:
        """Run it, and write down how it ended."""
        began = self._env.now()
        problem: str | None = None
        try:
            await run()
        except NotAsked:
            return True
        except Exception as error:  # noqa: BLE001  # whatever a store raises is what is wrong with it
            problem = "; ".join([_described(each) for each in _leaves(error)])[:PROBLEM_CHARS_MAX]
        outcome = Outcome(name, level, proves, self._env.now() - began, problem)
        self.outcomes.append(outcome)
        if self.report is not None:
            self.report(outcome)
        return problem is None


def _cleared(check: Check, pair: Pair) -> Callable[[], Any]:
    async def run() -> None:
        await pair.clear()
        await check.run(pair)

    return run


def _described(error: BaseException) -> str:
    name = "" if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: "
    return f"{name}{error}"[:PROBLEM_CHARS_MAX]


def _leaves(error: BaseException) -> list[BaseException]:
    """What is wrong, taken out of the groups in which a task group hands it on."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inside: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType] - a bare group has no element type
    return [leaf for each in inside for leaf in _leaves(each)]
