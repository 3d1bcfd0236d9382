"""Tasks of a main program: found in its children without starting it again, and nothing of it survives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from runtime.calling import fifo, gone, read

from taskweave import App
from taskweave._runtime import loading
from taskweave._runtime.address import Address
from taskweave.exceptions import MissingMainGuard

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent

HEAD = """
import sys
import anyio
from runtime import tasks_process
from runtime.calling import call
from taskweave._runtime.process import ProcessMode

def double(n: int) -> int:
    return n * 2

def where() -> list[str]:
    return [__name__, *sys.argv]

async def main():
    async with ProcessMode(1) as mode:
        for task, *given in ((double, 4), (where,)):
            end = await call(mode, task, *given)
            print(end.ending.name, end.cause, end.result, end.reason or end.failure and end.failure.message, flush=True)
"""


def run(path: Path, *arguments: str, module: bool = False, cwd: Path | None = None) -> str:
    command = [sys.executable, *(["-m", "pkg.program"] if module else [str(path)]), *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)])}
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(tmp_path: Path, tail: str, name: str = "program.py") -> Path:
    path = tmp_path / name
    path.write_text(HEAD + tail)
    return path


def test_the_tasks_of_a_guarded_program_are_found(tmp_path: Path) -> None:
    path = program(tmp_path, 'print("loaded as", __name__)\nif __name__ == "__main__":\n    anyio.run(main)\n')
    out = run(path, "--flag", "x")
    assert out.count("loaded as __main__") == 1
    assert out.count("loaded as __taskweave_main__") == 1
    assert "RETURNED None b'8'" in out
    assert f'"{path}","--flag","x"' in out.replace('", "', '","')
    assert not (tmp_path / "__pycache__").exists()


def test_a_program_without_a_suffix_started_from_its_folder_is_found(tmp_path: Path) -> None:
    program(tmp_path, 'if __name__ == "__main__":\n    anyio.run(main)\n', name="program")
    assert "RETURNED None b'8'" in run(Path("program"), cwd=tmp_path)


def test_the_tasks_of_a_program_started_as_a_module_are_found(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    path = program(tmp_path / "pkg", 'if __name__ == "__main__":\n    anyio.run(main)\n')
    out = run(path, module=True, cwd=tmp_path)
    assert "RETURNED None b'8'" in out
    assert "pkg.program" in out


UNGUARDED = {
    "plain": "anyio.run(main)",
    "trio": "anyio.run(main, backend='trio')",
    "asyncio": "import asyncio\nasyncio.run(main())",
    "uvloop": "import uvloop\nuvloop.run(main())",
    "function": "def start():\n    anyio.run(main)\nstart()",
    "swallowing": "try:\n    anyio.run(main)\nexcept Exception as error:\n    print('swallowed', type(error).__name__)",
    "swallowing everything": "try:\n    anyio.run(main)\nexcept BaseException:\n    pass",
    "exiting": "if len(sys.argv) < 9 and sys.stdin.isatty() is None: pass\nanyio.run(main)\nsys.exit(0)",
}


@pytest.mark.parametrize("tail", UNGUARDED.values(), ids=UNGUARDED)
def test_a_program_without_its_guard_is_refused_clearly(tail: str, tmp_path: Path) -> None:
    out = run(program(tmp_path, tail + "\n"))
    ends = [line for line in out.splitlines() if line.startswith("ABORTED main_guard")]
    assert len(ends) == 2  # once for each run, in the first process alone
    assert "if __name__ == '__main__'" in ends[0]
    assert "program.py starts work when it is imported" in ends[0]


def test_a_program_that_only_exits_is_refused_too(tmp_path: Path) -> None:
    out = run(program(tmp_path, 'if __name__ == "__main__":\n    anyio.run(main)\nsys.exit(0)\n'))
    assert "ABORTED main_guard" in out


def test_a_loop_that_an_imported_module_runs_is_its_own_affair(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        "import asyncio\nasync def load():\n    return 1\nVALUE = asyncio.run(load())\n"
    )
    tail = 'import settings\nif __name__ == "__main__":\n    anyio.run(main)\n'
    assert "RETURNED None b'8'" in run(program(tmp_path, tail))


def test_a_task_of_a_program_that_was_piped_in_is_refused() -> None:
    text = "from taskweave._runtime.address import address_of\ndef f(): ...\naddress_of(f, 'f')\n"
    done = subprocess.run(
        [sys.executable, "-"], input=text, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert "InvalidTask" in done.stderr
    assert "typed or piped in" in done.stderr


@pytest.fixture
def module_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "opens_an_app.py").write_text(
        "from taskweave._runtime.loading import refuse_while_loading\n"
        "try:\n    refuse_while_loading()\nexcept Exception:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "opens_an_app"
    sys.modules.pop("opens_an_app", None)


def test_opening_an_app_while_a_module_is_loaded_is_refused_even_if_swallowed(module_that_opens: str) -> None:
    with pytest.raises(MissingMainGuard, match="opens_an_app"):
        loading.load(Address(module_that_opens, "f"))
    loading.refuse_while_loading()  # nothing is being loaded any more


ORPHANS = """
import sys
import anyio
from runtime import tasks_process
from runtime.calling import call
from taskweave._runtime.process import ProcessMode

async def main():
    async with ProcessMode(2) as mode, anyio.create_task_group() as group:
        await call(mode, tasks_process.add, 1)
        group.start_soon(call, mode, getattr(tasks_process, sys.argv[1]), sys.argv[2])
        group.start_soon(call, mode, tasks_process.sleeps, 600.0)

anyio.run(main, backend=sys.argv[3])
"""


@pytest.mark.anyio
@pytest.mark.parametrize("task", ["spin", "spin_in_c", "spin_stubbornly", "with_grandchild"])
async def test_nothing_survives_a_worker_that_was_killed(
    task: str, tmp_path: Path, anyio_backend: tuple[str, dict[str, object]]
) -> None:
    path = tmp_path / "orphans.py"
    path.write_text(ORPHANS)
    started = fifo(tmp_path / "started")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)])}
    command = [sys.executable, str(path), task, started, anyio_backend[0]]
    with subprocess.Popen(command, env=env) as worker:  # noqa: ASYNC220 - killed and reaped whatever the loop does
        try:
            pid = int(await read(started))
            with anyio.fail_after(30):  # the other child may be a moment behind, and nothing tells of it
                while len(children := [int(child) for child in _children(worker.pid)]) < 2:
                    await anyio.sleep(0.01)
            watched = [os.pidfd_open(each) for each in {pid, *children}]
        finally:
            worker.send_signal(signal.SIGKILL)
    for each in watched:
        await gone(each, 10)


def _children(pid: int) -> list[str]:
    found: list[str] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        found += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    return found


@pytest.mark.anyio
async def test_a_child_whose_worker_is_gone_before_it_starts_leaves() -> None:
    """The worker's ends are closed already when the child asks the kernel to tell it."""
    reading, writing = os.pipe()
    os.close(writing)
    code = f"from taskweave._runtime.child import die_with_worker; die_with_worker({reading}); print('alive')"
    done = await anyio.run_process(
        [sys.executable, "-c", code], pass_fds=(reading,), check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    os.close(reading)
    assert (done.returncode, done.stdout) == (1, b"")


APP = """
import sys
import anyio
from taskweave import App

app = App("memory://")

@app.task(run_in="process")
def square(n: int) -> int:
    return n * n

async def main():
    async with app, app.worker():
        print(await (await square.enqueue(7)).result(timeout="30s"))

if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_decorated_task_of_a_program_runs_in_a_process(backend: str, tmp_path: Path) -> None:
    """In the child the program has another name, and so have the tasks that are named after it."""
    path = tmp_path / "shop.py"
    path.write_text(APP)
    assert run(path, backend) == "49\n"


UNGUARDED_APP = """
import sys
import threading
from functools import partial
import anyio
from taskweave import App

app = App(f"sqlite:///{sys.argv[1]}")

@app.task(run_in="process")
def square(n: int) -> int:
    return n * n

def start():
    square.enqueue_sync(7)
    anyio.run(partial(app.run_worker, signals=False, until_idle=True))

HOW
"""


@pytest.mark.parametrize(
    "how",
    [
        "start()",
        "try:\n    start()\nexcept BaseException:\n    pass",
        "thread = threading.Thread(target=start)\nthread.start()\nthread.join()",
    ],
    ids=["plain", "swallowed", "in a thread"],
)
def test_an_app_used_without_a_guard_does_nothing_twice(how: str, tmp_path: Path) -> None:
    """The child would enqueue a job of its own: from a thread, where no guard of a loop sees the main program."""
    path, store = tmp_path / "shop.py", tmp_path / "jobs.db"
    path.write_text(UNGUARDED_APP.replace("HOW", how))
    run(path, str(store))

    async def jobs() -> list[tuple[str, str]]:
        async with App(f"sqlite:///{store}") as app:
            return [(view.state.value, str(view.error)) async for view in app.find()]

    ((state, error),) = anyio.run(jobs)
    assert state == "failed"
    assert "if __name__ == '__main__'" in error


@pytest.mark.parametrize(
    "way", ["asyncio.run(app.__aenter__())", "app.worker()", "app.executor()", "app.close_sync() or f.enqueue_sync()"]
)
def test_every_way_into_an_app_is_refused_while_a_module_is_loaded(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "enters_an_app.py").write_text(
        f"import asyncio\nfrom taskweave import App\napp = App('memory://')\n@app.task\ndef f(): ...\n{way}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingMainGuard, match="enters_an_app"):
        loading.load(Address("enters_an_app", "f"))
    assert "enters_an_app" not in sys.modules


def test_a_process_task_of_a_program_that_was_piped_in_is_refused_when_it_is_registered() -> None:
    text = "from taskweave import App\ndef f(): ...\nApp('memory://').task(f, run_in='process')\n"
    done = subprocess.run(
        [sys.executable, "-"], input=text, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert "InvalidTask" in done.stderr
    assert "typed or piped in" in done.stderr
