"""Loading a user's code in a child process without starting the user's program again.

A main program that starts its worker without `if __name__ == "__main__":` would do so again in every child, which
would start children in turn. While code is being loaded, opening an app or a worker is refused, and so is starting
an event loop from the main program's top level: both say what is missing. A program that swallows the refusal is
found out all the same, since it is remembered.

Event loops are guarded where they are entered, when their package is imported, not before: a child whose tasks need
no event loop never imports one. A module that the main program imports may run a loop while it is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from typing import Any, Final

from taskweave._runtime.address import MAIN, Address
from taskweave.exceptions import MissingMainGuard

loading: str | None = None  # the file or module that this child is loading right now
refused: str | None = None  # what was refused during that; stays, although the program may have caught the error

_LOOPS: Final[dict[str, tuple[str | None, str]]] = {
    "asyncio.base_events": ("BaseEventLoop", "run_forever"),
    "uvloop": ("Loop", "run_forever"),
    "trio": (None, "run"),
}


def refuse_while_loading() -> None:
    """Refuse to open an app or a worker while a child process loads the program. Raises MissingMainGuard."""
    global refused
    if loading is not None:
        refused = loading
        raise MissingMainGuard(loading)


@contextmanager
def _watched(what: str) -> Generator[None]:
    """Raises MissingMainGuard at the end for what was refused in between, caught or not."""
    global loading, refused
    loading, refused = what, None
    try:
        yield
    except BaseException as error:
        if refused is not None and not isinstance(error, MissingMainGuard):
            raise MissingMainGuard(what) from error
        raise
    finally:
        loading = None
    if refused is not None:
        raise MissingMainGuard(what)


def load(address: Address) -> None:
    """Bring the module of this address into sys.modules. Raises MissingMainGuard, and whatever the module raises."""
    if address.module in sys.modules:
        return
    if address.script is None:
        with _watched(address.module):
            importlib.import_module(address.module)
        return
    finder = _LoopFinder()
    sys.meta_path.insert(0, finder)
    try:
        with _watched(address.script):
            _load_script(address.script)
    finally:
        sys.meta_path.remove(finder)


class _ScriptLoader(SourceFileLoader):
    def set_data(self, path: str, data: object, *, _mode: int = 0) -> None:
        """Write no bytecode: Python does not for main programs either."""


def _load_script(path: str) -> None:
    for name in _LOOPS:
        if name in sys.modules:
            _guard(sys.modules[name])
    spec = importlib.util.spec_from_file_location(MAIN, path, loader=_ScriptLoader(MAIN, path))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MAIN] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        del sys.modules[MAIN]
        raise MissingMainGuard(path) from error  # it ran to its end, arguments, sys.exit() and all
    except BaseException:
        del sys.modules[MAIN]
        raise


class _LoopFinder(MetaPathFinder):
    """Guards a loop's package as soon as it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _LOOPS:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _LoopLoader(spec.loader)
                return spec
        return None


class _LoopLoader(Loader):
    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._inner.exec_module(module)
        _guard(module)


def _guard(module: types.ModuleType) -> None:
    owner, name = _LOOPS[module.__name__]
    holder = module if owner is None else getattr(module, owner)
    entry: Callable[..., Any] = getattr(holder, name)
    if getattr(entry, "taskweave_guarded", False):
        return

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if loading is not None and _from_main_top_level():
            refuse_while_loading()
        return entry(*args, **kwargs)

    guarded.taskweave_guarded = True  # type: ignore[attr-defined]  # functions take attributes
    setattr(holder, name, guarded)


def _from_main_top_level() -> bool:
    """Whether the nearest module that is being loaded, seen from here outwards, is the main program."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return frame.f_globals.get("__name__") == MAIN
        frame = frame.f_back
    return False
