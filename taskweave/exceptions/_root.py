"""The root of the tree of errors."""

from __future__ import annotations

from typing import ClassVar

from attrs import define


def shown(value: object, most: int = 120) -> str:
    """A repr that is bounded and survives a broken __repr__: error texts must not fail themselves."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the user's object; its failure is the fact to show
        text = f"<{type(value).__name__}: __repr__ raised {type(error).__name__}>"
    return text if len(text) <= most else f"{text[: most - 1]}…"


@define(eq=False, slots=False)
class TaskweaveError(Exception):
    """Root of the tree: catching it catches everything that taskweave itself raises."""

    code: ClassVar[str] = "TW1000"

    def __str__(self) -> str:
        return f"[{self.code}] {self.explain()}"

    def explain(self) -> str:
        """What happened, to what, and what to do about it."""
        return "taskweave failed; look for its cause"
