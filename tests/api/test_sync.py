"""Programs without an event loop: a background thread that ends with them, and that no loop is blocked by."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from taskweave import App, InvalidArguments, JobFailed, ResultTimeout, SyncInsideLoop

ROOT = Path(__file__).parents[2]


def double(n: int) -> int:
    return n * 2


def fail() -> None:
    raise ValueError("no")


@pytest.fixture
def closing(app: App) -> Iterator[App]:
    yield app
    app.close_sync()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("taskweave-sync")]


async def work(app: App) -> None:
    async with app:
        await app.executor().run_until_idle()


@pytest.mark.proves(28)
def test_a_script_enqueues_and_waits(closing: App) -> None:
    task, failing = closing.task(double), closing.task(fail)
    handle = task.enqueue_sync(21)
    assert handle.status_sync() == "ready"
    with pytest.raises(ResultTimeout):
        handle.result_sync(timeout="10ms")
    many = task.enqueue_many_sync([(1,), (2,)])
    called = task.options(priority=3).call(5).enqueue_sync()
    failed = failing.enqueue_sync()
    assert len(threads()) == 1
    anyio.run(work, closing)
    assert handle.result_sync(timeout="20s") == 42
    assert [each.result_sync(timeout="20s") for each in (*many, called)] == [2, 4, 10]
    with pytest.raises(JobFailed, match="ValueError: no"):
        failed.result_sync(timeout="20s")
    failed.retry_sync()
    assert failed.cancel_sync()
    assert failed.status_sync() == "cancelled"
    with pytest.raises(InvalidArguments, match="n"):
        task.enqueue_sync("21")  # type: ignore[arg-type]
    closing.close_sync()
    assert threads() == []
    assert handle.status_sync() == "succeeded"  # it starts anew


@pytest.mark.anyio
async def test_inside_a_loop_it_names_the_await(app: App) -> None:
    task = app.task(double)
    async with app:
        handle = await task.enqueue(1)
        with pytest.raises(SyncInsideLoop, match=r"write: await double\.enqueue\(\.\.\.\)"):
            task.enqueue_sync(1)
        with pytest.raises(SyncInsideLoop, match=r"await double\.enqueue_many"):
            task.enqueue_many_sync([(1,)])
        with pytest.raises(SyncInsideLoop, match=r"await handle\.result\(\)"):
            handle.result_sync()
        with pytest.raises(SyncInsideLoop, match=r"await double\.call\(\.\.\.\)\.enqueue"):
            task.call(1).enqueue_sync()
        assert len([job async for job in app.find()]) == 1
    assert threads() == []


@pytest.mark.anyio
async def test_a_task_in_a_thread_may_enqueue(app: App) -> None:
    inner = app.task(double, name="inner")

    def outer(n: int) -> int:
        return inner.enqueue_sync(n).result_sync(timeout="20s")

    task = app.task(outer, name="outer")
    try:
        with anyio.fail_after(30):
            async with app.worker(poll="20ms"):
                assert await (await task.enqueue(4)).result(timeout="20s") == 8
    finally:
        await anyio.to_thread.run_sync(app.close_sync)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///jobs.db"])
def test_the_interpreter_ends_without_being_asked_to_close(url: str, tmp_path: Path) -> None:
    program = (
        f"from taskweave import App\napp = App({url!r})\n"
        "def f(n: int) -> int:\n    return n\n"
        "task = app.task(f)\nprint(task.enqueue_sync(1).status_sync())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own(tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom taskweave import App\napp = App('sqlite:///jobs.db')\n"
        "def f(n: int) -> int:\n    return n\n"
        "task = app.task(f)\ntask.enqueue_sync(1)\nchild = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n    task.enqueue_sync(2)\n    app.close_sync()\n    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "print(task.enqueue_sync(3).status_sync())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "7\nready\n")


@pytest.mark.proves(57)
def test_adding_a_task_to_a_script_takes_five_lines(tmp_path: Path) -> None:
    before = ["def resize(path: str) -> str:", "    return path.upper()", "", "print(resize('a.png'))"]
    after = [
        "from taskweave import App",
        "app = App('sqlite:///jobs.db')",
        "",
        "@app.task",
        "def resize(path: str) -> str:",
        "    return path.upper()",
        "",
        "print(resize.enqueue_sync('a.png').status_sync())",
    ]
    changed = [line for line in after if line and line not in before]
    assert len(changed) <= 5
    script = tmp_path / "script.py"
    script.write_text("\n".join(after))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "ready\n"
