"""Where a child process finds a task's function: a module and a qualified name, never the function itself.

Rules
  module   imported by its name; `python -m package.module` as main has such a name too
  script   a main program started by path is loaded from its file under MAIN, so that its guard stays shut
  refused  when the task is registered, if no child could ever find it: lambdas, functions inside functions,
           a main program that was typed or piped in
  found    as the Task in that module that has the task's name, for functions whose name was given to something
           else; or as the attribute with the function's name, unwrapped if it is a Task
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, Final, cast

from attrs import frozen

from taskweave.exceptions import InvalidTask

MAIN: Final = "__taskweave_main__"


class NotFound(Exception):
    """The module was loaded and does not hold the function."""


@frozen
class Address:
    """`script` is the absolute path of a main program, or None for a module that is imported by its name."""

    module: str
    name: str
    script: str | None = None


def address_of(fn: Callable[..., Any], task: str) -> Address:
    """Return where a child finds this function, or refuse it while the task is being registered. Raises InvalidTask."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise InvalidTask(task, f"{type(fn).__name__} objects have no name in a module", _TOP_LEVEL)
    if "<" in name:
        raise InvalidTask(task, f"a child process cannot find {name}, a lambda or local function", _TOP_LEVEL)
    if inspect.iscoroutinefunction(fn):
        raise InvalidTask(task, "process mode runs plain functions, not async ones", "write it with def, not async def")
    if module != "__main__":
        return Address(module, name)
    return _in_main(name, task)


_TOP_LEVEL: Final = "define it with def at the top level of a module (a decorator on it needs functools.wraps)"


def _in_main(name: str, task: str) -> Address:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return Address(spec.name, name)
    path = getattr(main, "__file__", None)
    if not isinstance(path, str) or not os.path.isfile(path):
        raise InvalidTask(
            task,
            "its main program was typed or piped in, so a child process cannot load it",
            "put the task into a file, or use run_in='thread'",
        )
    return Address(MAIN, name, os.path.abspath(path))


def find(address: Address, task: str) -> tuple[Callable[..., Any], object]:
    """Return the plain function, and what it was wrapped in. Raises NotFound, and whatever its module raises."""
    module = sys.modules.get(address.module) or importlib.import_module(address.module)
    found: Any = module
    for part in address.name.split("."):
        found = getattr(found, part, None)
    if not callable(found) or not _is_task(found, task):
        # A Task of a main program may have another name here, where it is not the main program.
        found = next((each for each in list(vars(module).values()) if _is_task(each, task)), found)
    outer: object = found
    while not inspect.isfunction(found) and (inner := getattr(found, "fn", None)) is not None:
        found = inner
    if not callable(found):
        where = address.script or address.module
        raise NotFound(f"{where} has no function {address.name!r} and no task {task!r} at its top level")
    return cast("Callable[..., Any]", found), outer


def _is_task(value: object, task: str) -> bool:
    # Judged by the instance's class, since odd objects (mocks, lazy modules) answer every attribute.
    return type(value).__module__.startswith("taskweave.") and getattr(value, "name", None) == task
