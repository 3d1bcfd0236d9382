"""docs/reference/errors.md is what the error classes say; TASKWEAVE_REGENERATE=1 writes it anew."""

from __future__ import annotations

import os
from typing import Any

import attrs
import pytest
from package_source import ROOT

from taskweave import exceptions
from taskweave.exceptions import Control, TaskweaveError

PAGE = ROOT / "docs/reference/errors.md"
OPENING = """# Errors

Every error that taskweave raises carries a stable `code`, its facts as fields, and a message that says what to do.
`taskweave explain TW1201` prints one entry of this page. In the texts, `<name>` is the field of that name.

"""


def classes() -> list[type[TaskweaveError]]:
    found = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, TaskweaveError)]
    return sorted(found, key=lambda each: each.code)


def stand_in(field: attrs.Attribute[Any]) -> object:
    """A value of the field's type that shows the field's name where it can."""
    name = f"<{field.name}>"
    plain: dict[str, object] = {"int": 0, "float": 0.0, "tuple[str, ...]": (name,)}
    return plain.get(str(field.type), name)


def entry(error: type[TaskweaveError]) -> str:
    facts = [field.name for field in attrs.fields(error)]
    text = error(**{field.name: stand_in(field) for field in attrs.fields(error)}).explain()
    parents = [base.__name__ for base in error.__mro__[1:-2] if base is not Exception]
    lines = [
        f"## {error.code} {error.__name__}",
        "",
        f"**When:** {(error.__doc__ or '').splitlines()[0]}",
        "",
        f"**It says, and what to do:** `{text}`",
        "",
    ]
    if facts:
        lines += ["**Facts:** " + ", ".join(f"`{fact}`" for fact in facts), ""]
    if parents:
        lines += ["**Caught also by:** " + ", ".join(f"`{parent}`" for parent in parents), ""]
    return "\n".join(lines)


def page() -> str:
    controls = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, Control)]
    raised = [
        f"- `{each.__name__}`: {(each.__doc__ or '').splitlines()[0]}" for each in controls if each is not Control
    ]
    closing = "## Not errors: raised inside a task to say how its attempt ends\n\n" + "\n".join(raised) + "\n"
    return OPENING + "\n".join(entry(error) for error in classes()) + "\n" + closing


def test_the_page_is_what_the_classes_say() -> None:
    if os.environ.get("TASKWEAVE_REGENERATE"):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run this test with TASKWEAVE_REGENERATE=1 and read the diff"


@pytest.mark.proves(118)
def test_the_page_has_a_heading_for_every_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for error in classes():
        assert text.count(f"\n## {error.code} {error.__name__}\n") == 1
