"""What a store is made of, as scripts for those who run them with rights that workers do not have."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import taskweave.stores as stores
from taskweave.connect import connect
from taskweave.exceptions import InvalidStoreUrl

_FOLDER: Final = Path(stores.__path__[0])
_KINDS: Final = {"postgres": "postgres", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
_REDIS: Final = ("redis", "rediss")
_NAMESPACE: Final = "taskweave"

_ROLE: Final = re.compile(r"\btaskweave(?=_)")
_SCHEMA: Final = re.compile(r"\btaskweave(?=\.)|(?<=SCHEMA )taskweave\b|(?<=')taskweave(?=')")
_HASH_TAG: Final = re.compile(r"(?<=\{)taskweave(?=\})")


def schema_script(url: str) -> str:
    """The statements that make the schema of this store. Raises InvalidStoreUrl where there are none."""
    scheme, namespace = _checked(url)
    if scheme == "sqlite":
        from taskweave.stores.sqlite import schema_sql

        return schema_sql()
    if scheme not in _KINDS:
        raise InvalidStoreUrl(_shown(url), "this store has no SQL")
    text: str = import_module(f"taskweave.stores.{_KINDS[scheme]}").schema_sql(namespace)
    return text


def roles_script(url: str) -> str:
    """The statements that make roles with no right too many. Raises InvalidStoreUrl where a store has no users."""
    scheme, namespace = _checked(url)
    if scheme in _REDIS:
        text = _ROLE.sub(namespace, (_FOLDER / "_redis" / "acl.txt").read_text("utf-8"))
        return _HASH_TAG.sub(namespace, text)
    if scheme not in _KINDS:
        raise InvalidStoreUrl(_shown(url), "this store has no users; the file's mode says who may open it")
    text = _ROLE.sub(namespace, (_FOLDER / "_sql" / _KINDS[scheme] / "roles.sql").read_text("utf-8"))
    return text if _KINDS[scheme] == "mysql" else _SCHEMA.sub(f'"{namespace}"', text)


def _checked(url: str) -> tuple[str, str]:
    """The scheme and the namespace of an address that its store accepts. Raises InvalidStoreUrl."""
    connect(url, create=False)
    parts = urlsplit(url)
    return parts.scheme, dict(parse_qsl(parts.query)).get("namespace", _NAMESPACE)


def _shown(url: str) -> str:
    return connect(url, create=False).url
