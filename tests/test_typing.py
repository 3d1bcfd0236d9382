"""Type checkers accept what is right and reject what is wrong, line by line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "typing"
ROOT = HERE.parents[1]


def mypy(file: str) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", file],
        cwd=HERE,
        env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.stderr, done.stderr
    return {int(line) for line in re.findall(rf"^{re.escape(file)}:(\d+): error:", done.stdout, re.MULTILINE)}


def pyright(file: str, tmp_path: Path) -> set[int]:
    settings = {
        "include": [file],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
        "reportUnusedCoroutine": False,
        "reportUnusedCallResult": False,
        "reportUnusedExpression": False,
    }
    for each in HERE.glob("*.py"):
        shutil.copy(each, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert answer["summary"]["filesAnalyzed"] == 1
    found = answer["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


@pytest.fixture(params=["mypy", "pyright"])
def check(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], set[int]]:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return mypy if request.param == "mypy" else lambda file: pyright(file, tmp_path)


@pytest.mark.proves(27)
@pytest.mark.timeout(600)
def test_right_uses_are_accepted(check: Callable[[str], set[int]]) -> None:
    assert check("right.py") == set()


@pytest.mark.proves(27)
@pytest.mark.timeout(600)
def test_every_wrong_use_is_rejected_and_nothing_else(check: Callable[[str], set[int]]) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if "  # E " in line}
    assert len(marked) > 20
    assert check("wrong.py") == marked
