"""Registration: a task is checked when it is registered, and stays a plain function."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from taskweave import (
    App,
    BuildFailed,
    Ctx,
    InvalidName,
    InvalidStoreUrl,
    InvalidTask,
    InvalidValue,
    NotOpen,
    Retry,
    TaskweaveError,
    Unique,
    UnknownOption,
    inject,
)


class Opaque: ...


async def wait() -> None: ...


def work(n: int) -> int:
    return n * 2


class Mode:
    async def __aenter__(self) -> Mode:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def run(self, work: Any, args: Any, kwargs: Any) -> Any: ...


def one(fn: Callable[..., Any] = work, **options: Any) -> Callable[[App], Any]:
    return lambda app: app.task(fn, **options)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def takes_opaque(x: Opaque) -> None: ...


def gives_opaque() -> Opaque:
    return Opaque()


def unresolved(x: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the point


def wrong_inject(x: int = inject()) -> None: ...


def two_ctx(a: Ctx, b: Ctx) -> None: ...


def ctx_by_position(a: Ctx, /) -> None: ...


def ctx_with_default(a: Ctx | None = None) -> None: ...


def odd_default(x: list[int] = (1,)) -> None: ...  # type: ignore[assignment]


BAD: dict[str, tuple[type[TaskweaveError], str, Callable[[App], Any]]] = {
    "option": (UnknownOption, "did you mean 'timeout'", one(timout=1)),
    "option of the decorator": (UnknownOption, "did you mean 'queue'", lambda app: app.task(queu="x")(work)),
    "twice": (InvalidTask, "there is a task of this name", lambda app: (one()(app), one()(app))),
    "a task": (InvalidTask, "a task already", lambda app: app.task(one()(app), name="x")),
    "a class": (InvalidTask, "not a function", one(Opaque)),
    "no function": (InvalidTask, "not a function", one("work")),  # type: ignore[arg-type]
    "lambda": (InvalidTask, "no stable name", one(lambda: 1)),
    "partial": (InvalidTask, "no name of its own", one(functools.partial(work, 1))),
    "generator": (InvalidTask, "generator", one(generator)),
    "async generator": (InvalidTask, "generator", one(async_generator)),
    "opaque": (InvalidTask, "x: Opaque has no form", one(takes_opaque)),
    "result": (InvalidTask, "its result: Opaque", one(gives_opaque)),
    "unresolved": (InvalidTask, "NotThere", one(unresolved)),
    "inject": (InvalidTask, "inject() but not annotated Ctx", one(wrong_inject)),
    "two ctx": (InvalidTask, "both annotated Ctx", one(two_ctx)),
    "ctx by position": (InvalidTask, "by name", one(ctx_by_position)),
    "optional ctx": (InvalidTask, "no form in JSON", one(ctx_with_default)),
    "async in thread": (InvalidTask, "async function cannot run in a thread", one(wait, run_in="thread")),
    "async in process": (InvalidTask, "async function cannot run in a process", one(wait, run_in="process")),
    "lambda in process": (InvalidTask, "no", one(lambda: 1, run_in="process")),
    "named lambda in process": (InvalidTask, "lambda or local", one(lambda: 1, run_in="process", name="x")),
    "run mode": (InvalidTask, "no run mode", one(run_in="gpu")),
    "unique name": (InvalidTask, "no such parameter", one(unique=Unique(by="m"))),
    "unique default": (InvalidTask, "cannot be stored", one(odd_default, unique=Unique())),
    "at most once": (InvalidTask, "cannot be retried", one(delivery="at_most_once", retry=3)),
    "delivery": (InvalidValue, "delivery", one(delivery="exactly_once")),
    "retry": (InvalidValue, "retry", one(retry="often")),
    "no attempts": (InvalidValue, "attempts", one(retry=0)),
    "priority": (InvalidValue, "priority", one(priority="high")),
    "timeout": (InvalidValue, "timeout", one(timeout="0s")),
    "absurd timeout": (InvalidValue, "timeout", one(timeout=1e18)),
    "version": (InvalidValue, "version", one(version=0)),
    "max_lost": (InvalidValue, "max_lost", one(max_lost=0)),
    "retention": (InvalidValue, "retention", one(result_ttl="2h", retention="1h")),
    "queue": (InvalidName, "queue", one(queue="a\tb")),
    "name": (InvalidName, "name", one(name="a\x7fb")),
    "long name": (InvalidName, "name", one(name="n" * 201)),
    "unique until": (InvalidValue, "until", lambda _: Unique(until="never")),  # type: ignore[arg-type]
    "unique both": (InvalidValue, "within", lambda _: Unique(until="started", within=1)),
    "unique by": (InvalidValue, "by", lambda _: Unique(by=())),
    "conflict": (InvalidValue, "on_conflict", lambda _: Unique(on_conflict="ignore")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_task_is_told_at_registration(name: str) -> None:
    error, text, act = BAD[name]
    app = App("memory://")
    with pytest.raises(error) as caught:
        act(app)
    assert type(caught.value) is error
    assert text in str(caught.value)


def test_a_local_function_cannot_run_in_a_process() -> None:
    def local() -> None: ...

    with pytest.raises(InvalidTask, match="lambda or local function"):
        App("memory://").task(local, run_in="process")
    assert App("memory://").task(work, run_in="process").work.run_in == "process"


def test_tasks_stay_plain_functions() -> None:
    app = App("memory://")

    @app.task
    async def fetch(url: str) -> int:
        """Fetches."""
        return len(url)

    @app.task(queue="slow", run_in="thread")
    def resize(path: str) -> str:
        return path + "!"

    async def main() -> None:
        assert await fetch("abc") == 3
        assert await fetch.run("abc") == 3
        assert await resize.run("a") == "a!"

    anyio.run(main)
    assert resize("a") == "a!"

    @app.task
    async def attempt(n: int, ctx: Ctx = inject()) -> int:
        await ctx.progress(1)
        return n + ctx.attempt

    @app.task
    def children(ctx: Ctx) -> None:
        ctx.enqueue(fetch.call("x"))

    assert anyio.run(attempt.run, 1) == 2
    with pytest.raises(NotOpen):
        anyio.run(children.run)
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetches.")
    assert (fetch.work.run_in, resize.work.run_in) == ("loop", "thread")
    assert app.task(work).fn is work


@pytest.mark.proves(30)
def test_no_decorator_no_registry_no_side_effect_of_an_import(tmp_path: Path) -> None:
    source = tmp_path / "tasks_twice.py"
    source.write_text(
        "from taskweave import App\napp = App('memory://')\n@app.task\ndef f(n: int) -> int:\n    return n\n"
    )
    apps = []
    for _ in range(2):
        spec = importlib.util.spec_from_file_location("tasks_twice", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        apps.append(module.app)
    assert [list(app.tasks) for app in apps] == [["tasks_twice.f"], ["tasks_twice.f"]]
    assert apps[0].tasks["tasks_twice.f"] is not apps[1].tasks["tasks_twice.f"]

    app = App("memory://")
    added = app.add(work, name="double", retry=2)
    assert work(2) == 4
    assert app.tasks == {"double": added}
    assert added.plan.spec.max_attempts == 2


def test_a_script_has_the_name_that_importing_it_would_give(tmp_path: Path) -> None:
    script = tmp_path / "hello.py"
    script.write_text(
        "from taskweave import App\napp = App('memory://')\n@app.task\ndef f() -> None: ...\nprint(f.name)\n"
    )
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(script.read_text())
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    assert run([sys.executable, str(script)], env=environment).stdout == "hello.f\n"
    assert run([sys.executable, "-m", "hello"], env=environment).stdout == "hello.f\n"
    assert run([sys.executable, "-m", "pack"], env=environment).stdout == "pack.f\n"


def test_options_of_a_task() -> None:
    app = App("memory://")
    task = app.task(
        work,
        retry=Retry(7),
        queue="q",
        priority=-3,
        timeout="2m",
        version=4,
        result_ttl="2h",
        retention="60d",
        max_lost=9,
        deadline="1d",
        tags=("a",),
        run_in=Mode(),
    )
    spec = task.plan.spec
    assert (spec.queue, spec.priority, spec.timeout_us, spec.version, spec.max_attempts) == ("q", -3, 120_000_000, 4, 7)
    assert (spec.result_ttl_us, spec.retention_us, spec.retention_failed_us) == tuple(
        hours * 3_600_000_000 for hours in (2, 60 * 24, 60 * 24)
    )
    assert (spec.max_lost, spec.expires_in_us, spec.tags) == (9, 86_400_000_000, (("a", "true"),))
    assert isinstance(task.work.run_in, Mode)
    assert app.task(work, name="once", delivery="at_most_once").plan.spec.at_most_once


@pytest.mark.parametrize(
    "url",
    [
        "",
        "jobs.db",
        "mssql://root:hunter2@localhost/x",
        "sqlite://",
        "sqlite:///",
        "sqlite://jobs.db",
        "sqlite:///a\nb",
        "sqlite:///x.db?mode=ro",
        "memory://x",
        "://",
        "SQLITE:///x",
        3,
    ],
)
def test_addresses_that_name_no_store(url: Any) -> None:
    with pytest.raises(InvalidStoreUrl) as caught:
        _ = App(url).url
    assert "hunter2" not in str(caught.value)


@pytest.mark.proves(29)
def test_the_builder_equals_the_keyword_form() -> None:
    built = (
        App.build()
        .store("memory://")
        .queue("a", weight=3)
        .queue("b")
        .concurrency(10)
        .lease("10s")
        .grace("5s")
        .poll("100ms")
        .processes(2)
        .task(work, name="work", priority=4)
        .build()
    )
    keywords = App(
        "memory://",
        queues={"a": 3, "b": 1},
        concurrency=10,
        lease="10s",
        grace="5s",
        poll="100ms",
        processes=2,
    )
    keywords.task(work, name="work", priority=4)
    assert built.settings == keywords.settings
    assert built.url == keywords.url
    assert [task.plan for task in built.tasks.values()] == [task.plan for task in keywords.tasks.values()]


@pytest.mark.proves(29)
def test_the_builder_lists_every_problem_at_once() -> None:
    builder = (
        App.build()
        .store("oracle://x")
        .queue("a\n", weight=3)
        .queue("b", weight=0)
        .concurrency(0)
        .lease("soon")
        .task(work, name="w", timout=1)  # type: ignore[call-arg]
        .task(Opaque)
    )
    with pytest.raises(BuildFailed) as caught:
        builder.build()
    problems = caught.value.problems
    assert len(problems) == 7
    for word in ("oracle", "a\\n", "weight", "concurrency", "lease", "timout", "not a function"):
        assert any(word in problem for problem in problems), word


@pytest.mark.proves(80)
def test_a_wrong_setting_of_the_app_suggests_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'concurrency'"):
        App("memory://", concurency=3)  # type: ignore[call-arg]
