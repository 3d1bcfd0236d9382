"""A task as the runtime sees it: a function, where it runs, and how its arguments and result become bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from attrs import frozen

from taskweave.core.retry import Retry

RunIn: TypeAlias = Literal["loop", "thread", "process"]


class CallCodec(Protocol):
    """Turns one task's arguments and results into bytes and back; made once per task from its signature."""

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Raises InvalidArguments, NotSerializable, PayloadTooLarge."""
        ...

    def decode(self, payload: bytes, codec: str, version: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Raises DecodeError."""
        ...

    def encode_result(self, value: Any) -> bytes:
        """Raises NotSerializable."""
        ...

    def decode_result(self, result: bytes) -> Any:
        """Raises DecodeError."""
        ...


@frozen
class Work:
    """`ctx` is the name of the parameter that receives the Ctx, if there is one."""

    name: str
    fn: Callable[..., Any]
    codec: CallCodec
    run_in: RunIn | RunMode = "loop"
    retry: Retry | None = None
    ctx: str | None = None


class RunMode(Protocol):
    """A way of running functions, pluggable as `run_in=`: entered when the worker starts, left when it ends.

    `run` is cancelled through its task like any anyio code, and must then stop the function or leave it behind.
    """

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def run(self, work: Work, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
