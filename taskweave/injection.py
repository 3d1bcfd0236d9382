"""What a parameter that the runner fills has as its default, so that callers and type checkers leave it out."""

from __future__ import annotations

from typing import Any, Final


class Injected:
    """Stands in for a value that only a running job has; touching it says so."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "inject()"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name!r} of an injected parameter: it is filled when a worker runs the job; "
            "called as a plain function, the task has to be given one"
        )


_INJECTED: Final = Injected()


def inject() -> Any:
    """Marks a parameter that the runner fills: `ctx: Ctx = inject()`. Any other use is refused at registration."""
    return _INJECTED
