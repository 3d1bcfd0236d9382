"""From a function to what the runtime knows of a task: its name, its parameters, where it runs, its codec.

Everything that can be wrong with a task is found here, when it is registered, and not when its first job runs.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from taskweave._codec.kinds import unstorable
from taskweave._codec.plain import Mismatch
from taskweave._codec.signature import Shape, SignatureCodec, Slot
from taskweave._runtime.address import MAIN, address_of
from taskweave._runtime.ctx import Ctx
from taskweave._runtime.work import RunIn, RunMode, Work
from taskweave.core.retry import Retry
from taskweave.core.unique import Unique
from taskweave.exceptions import InvalidTask
from taskweave.injection import Injected
from taskweave.options import Plan, TaskOptions, check_known, check_text, planned, retry_of

_NEVER: Final = (typing.Never, typing.NoReturn)


def register(
    fn: Callable[..., Any], options: Mapping[str, Any], limits: Mapping[str, int]
) -> tuple[Work, Plan, SignatureCodec]:
    """Check a function and its options. Raises InvalidTask, UnknownOption, InvalidInput."""
    check_known(options, TaskOptions, "app.task")
    if not callable(fn) or isinstance(fn, type):
        raise InvalidTask(repr(fn)[:80], "it is not a function", "pass a function")
    name = check_text("name", options["name"]) if "name" in options else default_name(fn)
    retry = retry_of(options["retry"]) if "retry" in options else None
    plan = planned(name, options, _once(name, retry, options))
    slots, ctx, returns = parameters(name, fn)
    codec = SignatureCodec(name, slots, returns, version=plan.spec.version, **limits)
    if plan.unique is not None:
        check_unique(name, plan.unique, slots)
    return Work(name, fn, codec, where(name, fn, options), retry, ctx), plan, codec


def _once(name: str, retry: Retry | None, options: Mapping[str, Any]) -> Retry | None:
    if options.get("delivery") == "at_most_once" and retry is not None and retry.attempts > 1:
        raise InvalidTask(name, "delivery='at_most_once' cannot be retried", "leave out retry, or the delivery")
    return retry


# --- its name -----------------------------------------------------------------------------------------------------


def default_name(fn: Callable[..., Any]) -> str:
    """The qualified name with its module; a script that runs as __main__ has the name that importing it would give."""
    qualname = getattr(fn, "__qualname__", None)
    if not isinstance(qualname, str):
        raise InvalidTask(repr(fn)[:80], "it has no name of its own", "give it one: app.task(fn, name='...')")
    if "<lambda>" in qualname:
        raise InvalidTask(qualname, "a lambda has no stable name", "give it one: app.task(fn, name='...')")
    module = getattr(fn, "__module__", None) or "__main__"
    return check_text("name", f"{main_name(module) if module in ('__main__', MAIN) else module}.{qualname}")


def main_name(module: str = "__main__") -> str:
    """What the running script would be called as a module; a child process has it under another name (MAIN)."""
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and spec.name != MAIN:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


# --- its parameters -----------------------------------------------------------------------------------------------


def parameters(name: str, fn: Callable[..., Any]) -> tuple[tuple[Slot, ...], str | None, Any]:
    """Its parameters, the one that receives the Ctx, and the annotation of its result. Raises InvalidTask."""
    signature, hints = _signature(name, fn), _hints(name, fn)
    slots: list[Slot] = []
    ctx: str | None = None
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name, Any)
        if hint is Ctx:
            ctx = _ctx(name, parameter, ctx)
            continue
        if isinstance(parameter.default, Injected):
            raise InvalidTask(
                name, f"{parameter.name} is inject() but not annotated Ctx", "annotate it: ctx: Ctx = inject()"
            )
        problem = unstorable(hint)
        if problem is not None:
            raise InvalidTask(
                name, f"{parameter.name}: {problem}", "annotate it with plain data, an attrs class or a dataclass"
            )
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        slots.append(Slot(parameter.name, parameter.kind, Shape(hint), required, parameter.default))
    return tuple(slots), ctx, _returns(name, hints)


def _signature(name: str, fn: Callable[..., Any]) -> inspect.Signature:
    target = _unwrapped(fn)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise InvalidTask(name, "it is a generator", "return a list, or enqueue one job for each item")
    try:
        return inspect.signature(fn)
    except (ValueError, TypeError) as error:
        raise InvalidTask(name, f"its signature cannot be read ({error})", "wrap it in a function") from error


def _hints(name: str, fn: Callable[..., Any]) -> dict[str, Any]:
    target = _unwrapped(fn)
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise InvalidTask(
            name,
            f"its annotations cannot be resolved ({error})",
            "import what they name at run time, above the task (not only under TYPE_CHECKING)",
        ) from error


def _unwrapped(fn: Callable[..., Any]) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.unwrap(fn)


def _ctx(name: str, parameter: inspect.Parameter, before: str | None) -> str:
    if before is not None:
        raise InvalidTask(name, f"{before} and {parameter.name} are both annotated Ctx", "keep one of them")
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InvalidTask(name, f"{parameter.name} cannot be passed by name", "declare it as: ctx: Ctx = inject()")
    if parameter.default is not parameter.empty and not isinstance(parameter.default, Injected):
        raise InvalidTask(name, f"{parameter.name} has a default", "declare it as: ctx: Ctx = inject()")
    return parameter.name


def _returns(name: str, hints: Mapping[str, Any]) -> Any:
    returns = hints.get("return", Any)
    if returns in _NEVER:
        return None
    problem = unstorable(returns)
    if problem is not None:
        raise InvalidTask(name, f"its result: {problem}", "return plain data, an attrs class or a dataclass")
    return returns


def check_unique(name: str, unique: Unique, slots: tuple[Slot, ...]) -> None:
    """Refuse a key that names no parameter, or whose default has no form. Raises InvalidTask."""
    known = {slot.name: slot for slot in slots}
    for part in unique.by if unique.by is not None else known:
        slot = known.get(part)
        if slot is None:
            raise InvalidTask(name, f"unique by {part!r}: no such parameter", f"name some of: {', '.join(known)}")
        if slot.required or slot.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        try:
            slot.shape.dump(slot.default)
        except Mismatch as error:
            raise InvalidTask(
                name, f"unique by {part!r}: its default cannot be stored ({error.problem})", "change the default"
            ) from error


# --- where it runs ------------------------------------------------------------------------------------------------


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    target = _unwrapped(fn)
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004 - the method itself is asked


def where(name: str, fn: Callable[..., Any], options: Mapping[str, Any]) -> RunIn | RunMode:
    """Where it runs, if it can. Raises InvalidTask."""
    waits = is_async(fn)
    run_in: Any = options.get("run_in", "loop" if waits else "thread")
    if not isinstance(run_in, str) and hasattr(run_in, "run") and hasattr(run_in, "__aenter__"):
        return typing.cast("RunMode", run_in)
    if run_in not in ("loop", "thread", "process"):
        raise InvalidTask(name, f"run_in={run_in!r} is no run mode", "use 'loop', 'thread', 'process' or a RunMode")
    if waits and run_in != "loop":
        raise InvalidTask(name, f"an async function cannot run in a {run_in}", "leave run_in out, or write it with def")
    if run_in == "process":
        address_of(fn, name)  # a child process finds the function by its module and name, or it is refused here
    found: RunIn = run_in
    return found
