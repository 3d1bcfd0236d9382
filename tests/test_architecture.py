"""What ARCHITECTURE.md shows of the tables in the code is derived from them, never drawn by hand.

After a change of a table: TASKWEAVE_REGENERATE=1 pytest tests/test_architecture.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from package_source import ROOT, sources
from test_layers import LAYERS, layer_of

from taskweave.core.effects import Why
from taskweave.core.endings import settlement_of
from taskweave.core.events import Ending, RunEnded
from taskweave.core.job import NEXT, TERMINAL, Failure, Spec, State
from taskweave.core.retry import Retry
from taskweave.core.verbs import Claimed, Op

PAGE = ROOT / "ARCHITECTURE.md"


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


PARTS: dict[str, Callable[[], str]] = {
    "layers": layers,
    "life of a job": life_of_a_job,
    "ends of a run": ends_of_a_run,
    "verbs of a store": verbs_of_a_store,
}


def part(page: str, name: str) -> re.Match[str]:
    found = re.search(rf"<!-- generated: {re.escape(name)} -->\n((?:(?!<!--).)*?)<!-- end -->", page, re.DOTALL)
    assert found is not None, f"ARCHITECTURE.md has no part {name!r}"
    return found


@pytest.mark.parametrize("name", PARTS)
def test_what_the_page_shows_is_what_the_code_says(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    wanted = PARTS[name]() + "\n"
    found = part(page, name)
    if os.environ.get("TASKWEAVE_REGENERATE"):
        PAGE.write_text(page[: found.start(1)] + wanted + page[found.end(1) :], encoding="utf-8")
        return
    assert found[1] == wanted, "regenerate the page: TASKWEAVE_REGENERATE=1 pytest tests/test_architecture.py"


def test_every_module_named_on_the_page_exists() -> None:
    named = set(
        re.findall(r"`((?:core|_runtime|stores|observe|_codec|cli)/[\w/]+\.py)`", PAGE.read_text(encoding="utf-8"))
    )
    assert {path for path in named if path not in sources()} == set()
