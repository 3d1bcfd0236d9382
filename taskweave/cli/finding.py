"""Finding the app that a command is about: module, module:attribute, file.py or file.py:attribute.

A file is imported under the name that Python would give it (its package's names included), with its root folder on
the path, so that process mode's children can import it too. Importing the app is the only code that a command loads.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import types
from pathlib import Path
from typing import Final

from attrs import frozen

from taskweave.app import App
from taskweave.exceptions import AppNotFound, TaskweaveError

_OURS: Final = str(Path(__file__).parents[1]) + os.sep
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@frozen
class Found:
    """An app, and the file that it came from (None for modules without one)."""

    app: App
    file: Path | None


def find_app(target: str) -> Found:
    """Import the target and return its app: the attribute named, or the only App there is. Raises AppNotFound."""
    place, attribute = _split(target)
    if place.endswith(".py") or os.sep in place:
        module = _import_file(target, Path(place))
    elif _DOTTED.fullmatch(place):
        _add_to_path(str(Path.cwd()))
        module = _import(target, place)
    else:
        raise AppNotFound(target, "this is neither a module nor a file")
    app = _named(target, module, attribute) if attribute else _only(target, module)
    return Found(app, Path(module.__file__).resolve() if module.__file__ else None)


def _split(target: str) -> tuple[str, str]:
    place, colon, attribute = target.rpartition(":")
    if not colon:
        return target, ""
    if not _DOTTED.fullmatch(attribute):
        raise AppNotFound(target, f"{attribute!r} is no attribute name")
    return place, attribute


def _import_file(target: str, path: Path) -> types.ModuleType:
    if not path.is_file():
        raise AppNotFound(target, f"there is no file {str(path)!r}")
    path = path.resolve()
    parts, root = [path.stem], path.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    name = ".".join(parts)
    if not _DOTTED.fullmatch(name):
        raise AppNotFound(target, f"{name!r} is no module name; rename the file")
    _add_to_path(str(root))
    module = _import(target, name)
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise AppNotFound(target, f"the name {name!r} belongs to {module.__file__ or 'Python itself'}; rename the file")
    return module


def _add_to_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _import(target: str, name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except TaskweaveError as error:  # the app itself is set up wrongly, and says how
        error.add_note(_where(error).strip())
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppNotFound(target, f"there is no module {error.name!r} here") from error
        raise AppNotFound(target, f"importing it failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise AppNotFound(target, f"importing it raised {type(error).__name__}: {error}{_where(error)}") from error


def _where(error: BaseException) -> str:
    """The last line of the user's own code, for an error that comes without its traceback."""
    if isinstance(error, SyntaxError):
        return ""
    line, last = "", error.__traceback__
    while last is not None:
        file = last.tb_frame.f_code.co_filename
        if "importlib" not in file and not file.startswith(("<", _OURS)):
            line = f" ({file}:{last.tb_lineno})"
        last = last.tb_next
    return line


def _named(target: str, module: types.ModuleType, attribute: str) -> App:
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = ", ".join(_apps(module)) or "none"
            raise AppNotFound(target, f"{module.__name__} has no {attribute!r} (apps there: {known})")
        value = getattr(value, part)
    if not isinstance(value, App):
        raise AppNotFound(target, f"{attribute!r} is a {type(value).__name__}, not an App")
    return value


def _only(target: str, module: types.ModuleType) -> App:
    apps = _apps(module)
    distinct = {id(app): app for app in apps.values()}
    if not distinct:
        raise AppNotFound(target, f"{module.__name__} holds no App at its top level")
    if len(distinct) > 1:
        raise AppNotFound(target, f"{module.__name__} holds several apps ({', '.join(apps)}); say which")
    return next(iter(distinct.values()))


def _apps(module: types.ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}
