"""Sizes, names and words of the package, as tests: what nobody watches grows.

Two kinds of bound: hard ones that no file or function may pass, and a ratchet of aims that counts what is over them
today and may only be lowered. Lines of a function are those of its body without the docstring.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
import tomllib
from collections.abc import Iterator

import pytest
from attrs import frozen
from package_source import ROOT, imports, sources, tree

FILE_LINES_AIM, FILE_LINES_MAX = 200, 600
FUNCTION_LINES_AIM, FUNCTION_LINES_MAX = 40, 70
MEDIAN_LINES_MAX = 8
# Lower them when they fall, never raise them: of every hundred files, how many are longer than the aim.
RATCHET = {"files over the aim, of 100": 18, "functions over the aim": 1}

NAMES_REFUSED = re.compile(r"(^|_)(managers?|helpers?|utils?|utilities|common|misc|stuff)(_|$)", re.IGNORECASE)
WORDS_REFUSED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|placeholder|coming soon)\b", re.IGNORECASE)
BARE_IGNORE = re.compile(r"#\s*(type:\s*ignore(?!\[)|pyright:\s*ignore(?!\[)|noqa(?!:))")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@frozen
class Sized:
    where: str
    lines: int


def functions(module: ast.AST) -> Iterator[Function]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def all_functions() -> list[Sized]:
    return [
        Sized(f"{path}:{each.lineno} {each.name}", body_lines(each))
        for path in sources()
        for each in functions(tree(path))
    ]


def words(name: str) -> str:
    """A name in snake case: JobManager -> job_manager."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)


def defined_names(path: str) -> Iterator[str]:
    yield from path.removesuffix(".py").split("/")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def test_no_file_is_too_long() -> None:
    assert [path for path, text in sources().items() if text.count("\n") > FILE_LINES_MAX] == []


def test_no_function_is_too_long() -> None:
    assert [each for each in all_functions() if each.lines > FUNCTION_LINES_MAX] == []


@pytest.mark.proves(130)
def test_the_sizes_stay_under_their_ratchet(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path: text.count("\n") for path, text in sources().items() if text.count("\n") > FILE_LINES_AIM}
    long = [each for each in all_functions() if each.lines > FUNCTION_LINES_AIM]
    median = statistics.median(each.lines for each in all_functions() if each.lines)
    share = 100 * len(files) // len(sources())  # a share: the package grows, and its files should not
    now = {"files over the aim, of 100": share, "functions over the aim": len(long)}
    with capsys.disabled():
        print(f"\n{len(sources())} files, {len(all_functions())} functions, median {median:g} lines; {now}")
        for what, limit in RATCHET.items():
            if now[what] < limit:
                print(f"the ratchet can be lowered: {what} {limit} -> {now[what]}")
    assert median < MEDIAN_LINES_MAX
    assert {what: number for what, number in now.items() if number > RATCHET[what]} == {}, (files, long)


def test_every_module_opens_with_its_theory() -> None:
    assert [path for path in sources() if not ast.get_docstring(tree(path))] == []


def test_every_folder_of_modules_is_a_package() -> None:
    """A namespace package hides its modules from the tools that check layers."""
    folders = {path.rpartition("/")[0] for path in sources() if "/" in path}
    assert [folder for folder in folders if f"{folder}/__init__.py" not in sources()] == []


def test_public_functions_and_classes_of_public_modules_say_what_they_promise() -> None:
    silent = []
    for path in ("app.py", "task.py", "connect.py", "builder.py", "abc.py", "core/ids.py"):
        if path not in sources():
            continue
        for node in tree(path).body:
            defined = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if defined and not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{path}:{node.lineno} {node.name}")
    assert silent == []


def test_names_are_nouns_of_the_domain() -> None:
    refused = {
        f"{path} {name}" for path in sources() for name in defined_names(path) if NAMES_REFUSED.search(words(name))
    }
    assert refused == set()


@pytest.mark.parametrize("name", ["JobManager", "queue_utils", "common", "TestHelper"])
def test_a_planted_name_is_found(name: str) -> None:
    assert NAMES_REFUSED.search(words(name))


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{path}:{number} {line.strip()}"
        for path, text in sources().items()
        for number, line in enumerate(text.splitlines(), 1)
        if WORDS_REFUSED.search(line)
    ]
    assert found == []


def test_nothing_is_swallowed() -> None:
    """An except body that does nothing must at least say with contextlib.suppress which error it expects."""
    silent = []
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
                silent.append(f"{path}:{node.lineno}")
    assert silent == []


def test_every_ignore_names_its_code() -> None:
    found = [
        f"{path}:{number}"
        for path, text in sources().items()
        for number, line in enumerate(text.splitlines(), 1)
        if BARE_IGNORE.search(line)
    ]
    assert found == []


# --- dependencies -------------------------------------------------------------------------------------------------

NEVER_NAMED = {"uvloop": "anyio imports it when it is asked to"}


def declared() -> tuple[set[str], dict[str, set[str]]]:
    """The modules of the base dependencies, and of each extra, as pyproject.toml declares them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(wanted: list[str]) -> set[str]:
        found = {re.split(r"[\s\[<>=!~;]", each)[0].replace("-", "_").lower() for each in wanted}
        return found - {"taskweave"}

    extras = {extra: names(wanted) for extra, wanted in project["optional-dependencies"].items()}
    return names(project["dependencies"]), extras


def third_party() -> dict[str, set[str]]:
    """Third-party module -> the files that import it."""
    found: dict[str, set[str]] = {}
    for path in sources():
        for each in imports(path):
            if each.top not in sys.stdlib_module_names and each.top != "taskweave" and not each.typing_only:
                found.setdefault("attrs" if each.top == "attr" else each.top, set()).add(path)
    return found


@pytest.mark.proves(142)
def test_dependencies_and_imports_agree() -> None:
    base, extras = declared()
    everything = base.union(*extras.values())
    assert set(third_party()) - everything == set(), "imported but not declared"
    assert everything - set(third_party()) - set(NEVER_NAMED) == set(), "declared but never imported"


@pytest.mark.proves(142)
def test_what_an_extra_brings_is_never_imported_at_the_top_of_a_base_module() -> None:
    base, extras = declared()
    optional = set().union(*extras.values()) - base
    # loaded only when their extra is asked for
    rooms = ("cli/", "observe/", "stores/_mysql/", "stores/_postgres/", "stores/_redis/", "testing/strategies.py")
    wrong = [
        str(each)
        for path in sources()
        if not path.startswith(rooms)
        for each in imports(path)
        if each.top in optional and not each.lazy and not each.typing_only
    ]
    assert wrong == []


def test_all_is_the_sum_of_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["all"] == [f"taskweave[{','.join(extra for extra in extras if extra != 'all')}]"]
