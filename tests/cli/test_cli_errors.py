"""What goes wrong is one line that says what and what to do, an exit code, and no traceback."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import ROOT, environment, in_app

from taskweave.cli.explain import classes_by_code

Invoke = Callable[..., Result]
Command = Callable[..., subprocess.CompletedProcess[str]]


def is_one_clear_line(stderr: str, code: str) -> bool:
    return bool(re.fullmatch(rf"error: \[{code}\] [^\n]+\n", stderr)) and stderr.rstrip("\n").isprintable()


def planted(folder: Path, fault: str) -> str:
    """A store with this fault; its address."""
    path = folder / "bad.db"
    match fault:
        case "missing":
            return "sqlite:///nothing/here.db"
        case "foreign":
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE somebody (x)")
            connection.close()
        case "text":
            path.write_text("this is no database, it is a text that is long enough to be looked at " * 40)
        case "folder":
            path.mkdir()
        case "empty":
            path.write_bytes(b"")
    return "sqlite:///bad.db"


@pytest.mark.parametrize(
    ("fault", "code"),
    [("missing", "TW1405"), ("foreign", "TW1404"), ("text", "TW1404"), ("folder", "TW1404"), ("empty", "TW1405")],
)
def test_a_bad_store_is_one_line(command: Command, folder: Path, fault: str, code: str) -> None:
    url = planted(folder, fault)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = command("job", "list", "--store", url)
    assert result.returncode == 1
    assert is_one_clear_line(result.stderr, code), result.stderr
    assert result.stdout == ""
    after = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before, "looking changed something"


def test_a_store_without_room_beside_it_is_full_and_not_unreachable(command: Command, folder: Path) -> None:
    """A limit on the size of files stands for a full disk: what SQLite says first is a "disk I/O error"."""
    assert command("store", "init", "--store", "sqlite:///jobs.db").returncode == 0
    line = [sys.executable, "-m", "taskweave", "job", "list", "--store", "sqlite:///jobs.db"]
    limited = (
        "import resource, sys, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)); "
        "sys.argv = sys.argv[1:]; runpy.run_module('taskweave', run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", limited, *line[2:]], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert is_one_clear_line(result.stderr, "TW1402"), result.stderr


def test_a_file_that_is_there_and_cannot_be_opened_is_not_called_missing(command: Command, folder: Path) -> None:
    assert command("store", "init", "--store", "sqlite:///jobs.db").returncode == 0
    (folder / "jobs.db-wal").unlink(missing_ok=True)
    (folder / "jobs.db-wal").mkdir()
    result = command("job", "list", "--store", "sqlite:///jobs.db")
    assert result.returncode == 1
    assert is_one_clear_line(result.stderr, "TW1403"), result.stderr


def test_a_store_of_a_newer_version_is_one_line(invoke: Invoke, loaded: Any, folder: Path) -> None:
    async def nothing() -> None: ...

    in_app(loaded.app, nothing)
    connection = sqlite3.connect(folder / "jobs.db")
    connection.execute("PRAGMA user_version=999")
    connection.close()
    for args in (("job", "list"), ("queue", "pause", "x"), ("store", "check"), ("doctor",)):
        result = invoke(*args, "--app", "jobsapp")
        assert result.exit_code == 1
        assert "TW1406" in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("memory://", "TW1407"),
        ("mssql://u:hunter2@h/db", "TW1407"),
        ("jobs.db", "TW1407"),
        ("sqlite://jobs.db", "TW1407"),
        ("sqlite:///a\nb.db", "TW1407"),
        ("", "TW1407"),
    ],
)
def test_an_address_that_means_nothing_is_one_line(invoke: Invoke, url: str, code: str) -> None:
    result = invoke("queue", "list", "--store", url)
    assert result.exit_code == 1
    assert is_one_clear_line(result.stderr, code), result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    "target",
    ["nowhere.py", "nowhere", "jobsapp:nope", "jobsapp:log", "two.py", "none.py", "syntax.py", "raises.py", "exits.py",
     "a b.py", "sub/json.py", "jobsapp.py:x y", "needs.py", "../x/", "__import__('os')"],
)  # fmt: skip
def test_an_app_that_cannot_be_found_is_one_line(command: Command, folder: Path, target: str) -> None:
    head = "from taskweave import App\n"
    (folder / "two.py").write_text(f"{head}a = App('memory://')\nb = App('memory://')\n")
    (folder / "none.py").write_text("x = 1\n")
    (folder / "syntax.py").write_text("def (\n")
    (folder / "raises.py").write_text("def f():\n    raise RuntimeError('line one\\nline two \\x1b[31m')\nf()\n")
    (folder / "exits.py").write_text("raise SystemExit(0)\n")
    (folder / "a b.py").write_text(f"{head}a = App('memory://')\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "json.py").write_text(f"{head}a = App('memory://')\n")
    (folder / "needs.py").write_text("import nothing_of_this_name\n")
    result = command("worker", target, "--until-idle")
    assert result.returncode == 1
    assert is_one_clear_line(result.stderr, "TW1105"), result.stderr


def test_the_line_of_a_module_that_raises_names_the_place(invoke: Invoke, folder: Path) -> None:
    (folder / "raises2.py").write_text("def f():\n    raise RuntimeError('x')\nf()\n")
    assert f"({folder / 'raises2.py'}:2)" in invoke("worker", "raises2.py").stderr


def test_the_line_of_an_app_that_is_set_up_wrongly_names_the_place(command: Command, folder: Path) -> None:
    """With forty tasks in a file, "base is '1h'" alone says little: the line is the user's, not one of ours."""
    (folder / "wrong.py").write_text("from taskweave import App, Retry\napp = App()\nRetry(3, base='1h')\n")
    result = command("worker", "wrong.py")
    assert result.returncode == 1
    assert is_one_clear_line(result.stderr, "TW1201"), result.stderr
    assert f"({folder / 'wrong.py'}:3)" in result.stderr


@pytest.mark.proves(80)
@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("jbo",), "Did you mean 'job'?"),
        (("worke", "x"), "Did you mean 'worker'?"),
        (("job", "lst"), "list"),
        (("job", "list", "--statsu", "failed"), "--status"),
        (("worker", "app.py", "--concurency", "3"), "--concurrency"),
        (("explain", "TW1209x"), "Did you mean 'TW1209'?"),
    ],
)
def test_a_wrong_name_suggests_the_nearest(invoke: Invoke, args: tuple[str, ...], hint: str) -> None:
    result = invoke(*args)
    assert result.exit_code == 2
    assert hint in result.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("worker", "jobsapp.py", "--queues", "a,,b"), "TW1201"),
        (("worker", "jobsapp.py", "--queues", "a=x"), "TW1201"),
        (("worker", "jobsapp.py", "--concurrency", "0"), "TW1201"),
        (("worker", "jobsapp.py", "--metrics", "nonsense"), "TW1201"),
        (("worker", "jobsapp.py", "--grace", "soon"), "TW1201"),
        (("job", "list", "--app", "jobsapp", "--tag", "novalue"), "TW1201"),
        (("demo", "nowhere", "--store", "memory://"), "TW1201"),
    ],
)
def test_a_bad_value_is_one_line(command: Command, args: tuple[str, ...], code: str) -> None:
    result = command(*args)
    assert result.returncode == 1
    assert is_one_clear_line(result.stderr, code), result.stderr


@pytest.mark.parametrize("module", ["click", "rich"])
def test_without_its_extra_the_command_names_the_remedy(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from taskweave.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr == "error: the taskweave command needs its extra; run: pip install 'taskweave[cli]'\n"


@pytest.mark.parametrize(("backend", "module"), [("trio", "trio"), ("uvloop", "uvloop")])
def test_a_loop_that_is_not_installed_names_its_extra(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, loaded: Any, backend: str, module: str
) -> None:
    monkeypatch.setattr("taskweave.cli.loops.importlib.util.find_spec", lambda name: None)
    result = invoke("worker", "jobsapp.py", "--backend", backend, "--until-idle")
    assert is_one_clear_line(result.stderr, "TW1104"), result.stderr


def test_help_loads_neither_a_loop_nor_a_driver_nor_tables() -> None:
    code = (
        "import sys; from taskweave.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'asyncio', 'trio', 'aiosqlite', 'sqlite3', 'cattrs', 'prometheus_client', 'rich.table', 'anyio'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.splitlines()[-1] == "[]"
    assert "Commands:" in result.stdout


@pytest.mark.proves(118)
@pytest.mark.parametrize("code", sorted(classes_by_code()))
def test_every_code_is_explained(invoke: Invoke, code: str) -> None:
    result = invoke("explain", code.lower())
    assert result.exit_code == 0
    assert classes_by_code()[code].__name__ in result.stdout
    assert invoke("explain", code[2:], "--json").exit_code == 0


def test_the_codes_can_be_listed(invoke: Invoke) -> None:
    assert len(invoke("explain").stdout.splitlines()) == len(classes_by_code())


@pytest.mark.parametrize(
    "act",
    [
        "signal.raise_signal(signal.SIGINT)",
        "try: signal.raise_signal(2)\n  except BaseException as e: raise RuntimeError from e",
    ],
    ids=["plain", "wrapped"],
)
def test_ctrl_c_while_the_command_is_loaded_is_one_word(act: str) -> None:
    """Half of a second command's life is spent importing: an impatient Ctrl-C lands there."""
    code = (
        "import signal, sys\n"
        "signal.signal(2, signal.default_int_handler)\n"  # a test run in the background inherits that it is ignored
        "class Impatient:\n"
        " def find_spec(self, name, path=None, target=None):\n"
        f"  if name != 'taskweave.cli': return\n  {act}\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "from taskweave.__main__ import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "demo"], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize("args", [("store", "sql"), ("job", "list", "--json")])
def test_output_that_finds_no_room_is_one_line(command: Command, folder: Path, args: tuple[str, ...]) -> None:
    assert command("store", "init", "--store", "sqlite:///taskweave.db").returncode == 0
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "taskweave", *args], cwd=folder, env=environment(), stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "error: the output cannot be written: there is no room where it goes\n"
