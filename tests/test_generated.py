"""What ARCHITECTURE.md and the reference show of tables, names and settings is derived from the code.

After a change: TASKWEAVE_REGENERATE=1 pytest tests/test_generated.py
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from attrs import fields
from package_source import ROOT, sources
from test_layers import LAYERS, layer_of

import taskweave
from taskweave import SQLiteTaskStore
from taskweave.cli import COMMANDS, root
from taskweave.core import bounds as core_bounds
from taskweave.core.effects import Why
from taskweave.core.endings import settlement_of
from taskweave.core.events import Ending, RunEnded
from taskweave.core.job import NEXT, TERMINAL, Failure, Spec, State
from taskweave.core.retry import Retry
from taskweave.core.verbs import Claimed, Op
from taskweave.exceptions import Control
from taskweave.options import CallOptions, TaskOptions
from taskweave.settings import WorkerSettings


def life_of_a_job() -> str:
    """NEXT as a state diagram: one arrow for each pair of states, with all verbs that take it."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, verb), after in NEXT.items():
        arrows.setdefault((before, after), []).append(verb.value)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> scheduled: enqueue, due later", "    [*] --> ready: enqueue"]
    lines += [f"    {before} --> {after}: {', '.join(verbs)}" for (before, after), verbs in arrows.items()]
    lines += [f"    {state} --> [*]: prune" for state in State if state in TERMINAL]
    return "\n".join([*lines, "```"])


def ends_of_a_run() -> str:
    """What each way for a run to end becomes, with attempts left and on the last one, as core.endings decides it."""
    lines = ["| the run | attempts left | on the last attempt |", "|---|---|---|"]
    for ending in Ending:
        stops = [Why.TIMEOUT, Why.CANCELLED, Why.DRAIN, Why.LEASE_LOST] if ending is Ending.STOPPED else [None]
        for why in stops:
            name = ending.name.lower().replace("_", " ") + (f" ({why.value.replace('_', ' ')})" if why else "")
            lines.append(f"| {name} | {_settled(ending, why, 1)} | {_settled(ending, why, 2)} |")
    return "\n".join(lines)


def _settled(ending: Ending, why: Why | None, attempt: int) -> str:
    spec = Spec("id", "task", "queue", b"", max_attempts=2)
    failure = Failure("OSError", "", kinds=("builtins.OSError", "builtins.Exception"))
    run = RunEnded("id", 1, ending, failure=failure, delay_us=1, jitter=0.5)
    settlement = settlement_of(run, Claimed(spec, attempt, 1, 0, 0, 0), Retry(2), why, 1, "asked")
    return "nothing: the lease is not its own any more" if settlement is None else settlement.verb.value


def verbs_of_a_store() -> str:
    lines = ["| verb | what it does |", "|---|---|"]
    for op in _ops(Op):
        summary = (op.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")
        lines.append(f"| `{op.name}` ({op.__name__}) | {summary} |")
    return "\n".join(lines)


def _ops(root: type) -> list[type[Op[object]]]:
    """The concrete verbs in the order of their module; of a class and its slotted copy the last one counts."""
    found: dict[str, type[Op[object]]] = {}
    for child in root.__subclasses__():
        if "name" in vars(child):
            found[child.__name__] = child
        else:
            found.update({op.__name__: op for op in _ops(child)})
    return list(found.values())


def layers() -> str:
    present = (
        [name for name in names if any(layer_of(path) is not None and _in(path, name) for path in sources())]
        for names in LAYERS
    )
    rows = ["  ".join(name.removesuffix(".py").removesuffix("/") for name in names) for names in present]
    return "\n".join(["```text", *(row for row in rows if row), "```"])


def _in(path: str, name: str) -> bool:
    return path == name or (name.endswith("/") and path.startswith(name))


def names() -> str:
    """Everything in taskweave.__all__, by kind, with the first line of its docstring."""
    rows: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": [], "Raised by tasks": [], "Values": []}
    for name in sorted(taskweave.__all__):
        value = getattr(taskweave, name)
        kind = "Functions" if inspect.isfunction(value) else "Values"
        if isinstance(value, type):
            kind = "Classes"
            if issubclass(value, BaseException):
                kind = "Raised by tasks" if issubclass(value, Control) else "Errors"
        rows[kind].append(f"| `{name}` | {_first_line(value, kind)} |")
    tables = [f"**{kind}**\n\n| | |\n|---|---|\n" + "\n".join(lines) for kind, lines in rows.items() if lines]
    return "\n\n".join(tables)


def own_docstring(value: object) -> str:
    """Its docstring, not one that it inherits."""
    return (vars(value).get("__doc__") if isinstance(value, type) else getattr(value, "__doc__", None)) or ""


def _first_line(value: object, kind: str) -> str:
    if kind == "Values":
        return f"`{value!r}`" if isinstance(value, int | str | float) else ""
    line = inspect.cleandoc(own_docstring(value)).split("\n\n")[0]
    code = f"{value.code}: " if kind == "Errors" and hasattr(value, "code") else ""
    return (code + line.replace("\n", " ").replace("|", "\\|")).strip(" :")


def bounds() -> str:
    """The constants of core.bounds with what their comments say."""
    source = inspect.getsource(core_bounds)
    rows = []
    for name, comment in re.findall(r"^([A-Z][A-Z_]+): Final[^#\n]*(?:#\s*(.*))?$", source, re.MULTILINE):
        value = getattr(core_bounds, name)
        rows.append(f"| `{name}` | {value:,} | {comment} |")
    return "\n".join(["| in `taskweave.core.bounds` | | |", "|---|---|---|", *rows])


def commands() -> str:
    """Every command with its arguments and options, from the command line itself."""
    with click.Context(root, info_name="taskweave") as context:
        return "\n\n".join(_command(root.get_command(context, name), f"taskweave {name}") for name in COMMANDS)


def _command(command: click.Command | None, name: str) -> str:
    assert command is not None
    if isinstance(command, click.Group):
        children = [_command(child, f"{name} {child_name}") for child_name, child in command.commands.items()]
        return "\n\n".join(children)
    arguments = " ".join(
        each.make_metavar(click.Context(command)) for each in command.params if isinstance(each, click.Argument)
    )
    summary = (command.help or "").split("\n\n")[0].replace("\n", " ").strip()
    rows = [f"- `{', '.join(each.opts)}`{_option_help(each)}" for each in command.params if _shown(each)]
    return "\n".join([f"### `{' '.join([name, arguments]).strip()}`", "", summary, "", *rows]).rstrip()


def _shown(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and not parameter.hidden


def _option_help(option: click.Parameter) -> str:
    assert isinstance(option, click.Option)
    default = f"Default: {option.default}." if option.show_default and option.default not in (None, False) else ""
    return f" {option.help or ''} {default}".replace("  ", " ").rstrip()


ARCHITECTURE, API, SETTINGS, CLI = (
    ROOT / name
    for name in ("ARCHITECTURE.md", "docs/reference/api.md", "docs/reference/settings.md", "docs/reference/cli.md")
)
PARTS: dict[str, tuple[Path, Callable[[], str]]] = {
    "layers": (ARCHITECTURE, layers),
    "life of a job": (ARCHITECTURE, life_of_a_job),
    "ends of a run": (ARCHITECTURE, ends_of_a_run),
    "verbs of a store": (ARCHITECTURE, verbs_of_a_store),
    "names": (API, names),
    "bounds": (SETTINGS, bounds),
    "commands": (CLI, commands),
}


def part(page: str, name: str) -> re.Match[str]:
    found = re.search(rf"<!-- generated: {re.escape(name)} -->\n((?:(?!<!--).)*?)<!-- end -->", page, re.DOTALL)
    assert found is not None, f"no page has a part {name!r}"
    return found


@pytest.mark.parametrize("name", PARTS)
def test_what_the_page_shows_is_what_the_code_says(name: str) -> None:
    path, write = PARTS[name]
    page, wanted = path.read_text(encoding="utf-8"), write() + "\n"
    found = part(page, name)
    if os.environ.get("TASKWEAVE_REGENERATE"):
        path.write_text(page[: found.start(1)] + wanted + page[found.end(1) :], encoding="utf-8")
        return
    assert found[1] == wanted, "regenerate the page: TASKWEAVE_REGENERATE=1 pytest tests/test_generated.py"


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("## Of a task", [*inspect.get_annotations(TaskOptions)]),
        ("## Of one call", [*inspect.get_annotations(CallOptions)]),
        ("## Of a worker", [each.name for each in fields(WorkerSettings)]),
        ("## Of a store", [*inspect.signature(SQLiteTaskStore).parameters][1:]),
    ],
)
def test_the_reference_names_every_setting(heading: str, names: list[str]) -> None:
    section = SETTINGS.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == names


def test_every_public_name_says_what_it_promises() -> None:
    named = {name: getattr(taskweave, name) for name in taskweave.__all__}
    assert [name for name, value in named.items() if callable(value) and not own_docstring(value)] == []


def test_every_module_named_in_the_architecture_exists() -> None:
    page = ARCHITECTURE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:core|_runtime|stores|observe|_codec|cli)/[\w/]+\.py)`", page))
    assert {path for path in named if path not in sources()} == set()
