"""What a user gets: the built wheel, installed into an environment that holds nothing else.

Needs a package index, so it runs in its own session: nox -s packaging. The environment is made once for all tests.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES_MAX = 10
IMPORT_MS_MAX = 150
SLACK = 3 if os.environ.get("CI") else 1  # a busy shared machine measures its neighbours; the figure is printed anyway
RSS_KIB_MAX = 60_000

IMPORT_MS = "import time; t = time.perf_counter(); import taskweave; print((time.perf_counter() - t) * 1000)"
HEAVY = ("cattrs", "aiosqlite", "sqlite3", "trio", "uvloop", "click", "rich", "prometheus_client", "multiprocessing")

WORKER_KIB = """
import resource, anyio
from taskweave import App

app = App("memory://")

@app.task
async def nothing(n: int) -> int:
    return n

async def main() -> None:
    async with app.worker():
        jobs = await nothing.enqueue_many([(n,) for n in range(1000)])
        await app.wait_until_idle(timeout="60s")

anyio.run(main)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(*command: str | Path, folder: Path | None = None, fails: bool = False) -> str:
    """What the command prints, on either stream; its success, or its failure, is as announced."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TASKWEAVE"))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and what it requires, without any extra."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    return folder / "bin"


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "taskweave").rglob("*") if path.is_file()}
    wanted = {name for name in files if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert "taskweave/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.proves(87)
def test_the_base_install_is_at_most_ten_packages(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = run(base / "python", "-m", "pip", "list", "--format=freeze").splitlines()
    packages = {line.partition("==")[0] for line in listed} - {"pip", "setuptools"}
    with capsys.disabled():
        print(f"\nbase install: {len(packages)} packages: {', '.join(sorted(packages))}")
    assert "taskweave" in packages
    assert len(packages) <= PACKAGES_MAX


@pytest.mark.proves(87)
def test_importing_is_quick(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(base / "python", "-c", IMPORT_MS)  # writes the bytecode
    times = [float(run(base / "python", "-c", IMPORT_MS)) for _ in range(5)]
    with capsys.disabled():
        print(f"\nimport taskweave: median of 5 {statistics.median(times):.0f} ms")
    assert statistics.median(times) <= IMPORT_MS_MAX * SLACK


@pytest.mark.proves(87)
def test_importing_loads_nothing_heavy(base: Path) -> None:
    ask = f"import sys, taskweave; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert run(base / "python", "-c", ask).strip() == "[]"


@pytest.mark.proves(87)
def test_a_worker_is_small(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.py").write_text(WORKER_KIB, encoding="utf-8")
    largest = int(run(base / "python", "small.py", folder=tmp_path))
    with capsys.disabled():
        print(f"\na worker on the memory store, 1,000 jobs: at most {largest / 1000:.0f} MB")
    assert largest < RSS_KIB_MAX


@pytest.mark.proves(37)
def test_hello_world_runs_with_the_base_install_alone(base: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(
        r'```python title="hello.py"\n(.*?)```.*?```console\n\$ python hello.py\n(.*?)```', readme, re.DOTALL
    )
    assert found is not None
    hello, output = found[1], found[2]
    assert hello.count("\n") <= 15
    (tmp_path / "hello.py").write_text(hello, encoding="utf-8")
    assert run(base / "python", "hello.py", folder=tmp_path) == output


@pytest.mark.proves(80)
def test_without_its_extra_the_command_names_the_remedy(base: Path) -> None:
    printed = run(base / "taskweave", "--help", fails=True)
    assert "pip install 'taskweave[cli]'" in printed
    assert "Traceback" not in printed


def test_every_extra_installs_what_it_promises(base: Path, wheel: Path, tmp_path: Path) -> None:
    """One environment with all of them: the command starts, and the README's first command ends as it says."""
    venv.create(tmp_path / "all", with_pip=True)
    bin_folder = tmp_path / "all" / "bin"
    run(bin_folder / "python", "-m", "pip", "install", "--quiet", f"taskweave[all] @ {wheel.as_uri()}")
    run(bin_folder / "python", "-c", "import trio, uvloop, click, rich, prometheus_client")
    assert "worker" in run(bin_folder / "taskweave", "--help")
