"""taskweave explain TW1234: what an error code means, from the error classes themselves."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

import attrs
import click

from taskweave import exceptions
from taskweave.cli.output import emit_json, say
from taskweave.cli.reach import json_option


def classes_by_code() -> dict[str, type[exceptions.TaskweaveError]]:
    """Every error class by its code, from the tree itself."""
    found: dict[str, type[exceptions.TaskweaveError]] = {}
    for value in vars(exceptions).values():
        if inspect.isclass(value) and issubclass(value, exceptions.TaskweaveError):
            found[value.code] = value
    return dict(sorted(found.items()))


def sample(kind: type[exceptions.TaskweaveError]) -> exceptions.TaskweaveError:
    """An error of this kind whose fields hold their own names, to show its text."""
    return kind(**{field.name: _stand_in(field) for field in attrs.fields(kind)})


def _stand_in(field: attrs.Attribute[Any]) -> Any:
    name = f"<{field.name}>"
    kinds: dict[str, Any] = {"int": 0, "float": 0.0, "tuple[str, ...]": (name,)}
    return kinds.get(str(field.type), name)


@click.command()
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """Say what an error code means and what to do; without a code, list them."""
    classes = classes_by_code()
    if code is None:
        entries = [
            {"code": each, "name": kind.__name__, "text": sample(kind).explain()} for each, kind in classes.items()
        ]
        if as_json:
            emit_json({"errors": entries})
        for entry in () if as_json else entries:
            say(f"{entry['code']}  {entry['name']:<20} {entry['text']}")
        return
    wanted = code.upper()
    kind = classes.get(wanted if wanted.startswith("TW") else f"TW{wanted}")
    if kind is None:
        near = get_close_matches(wanted, classes, n=1)
        raise click.UsageError(f"there is no error {code!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
    _show(kind, as_json=as_json)


def _show(kind: type[exceptions.TaskweaveError], *, as_json: bool) -> None:
    parents = [
        f"{parent.code} {parent.__name__}"
        for parent in kind.__mro__[1:]
        if issubclass(parent, exceptions.TaskweaveError)
    ]
    fields = [field.name for field in attrs.fields(kind)]
    theory = inspect.getdoc(kind) if kind.__doc__ and "Method generated" not in kind.__doc__ else None
    if as_json:
        emit_json(
            {
                "code": kind.code,
                "name": kind.__name__,
                "text": sample(kind).explain(),
                "fields": fields,
                "parents": parents,
            }
        )
        return
    say(f"{kind.code}  taskweave.{kind.__name__}")
    say(f"  {sample(kind).explain()}")
    if theory:
        say("\n".join(f"  {line}" for line in theory.splitlines()))
    if fields:
        say(f"  facts on the error: {', '.join(fields)}")
    say(f"  caught also by: {', '.join(parents) or 'nothing else'}")
